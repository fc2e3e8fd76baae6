// A C face of ExecuTorch for ctypes: load a program, bind its tensors once, run it, free it. No torch, no Python.
//
// The wheel's own headers and torch-free libraries are all it needs. Inputs and outputs lie in memory of the caller,
// bound at load; after that a step allocates nothing here. Every call that may compute holds NoThreadPoolGuard:
// ExecuTorch otherwise starts a thread per core at load and wakes all of them at each step, which for a batch of one
// costs more than it gives. Functions return 0 or a positive error: ExecuTorch's own, or one of ours from 1000 on.

#include <executorch/extension/data_loader/buffer_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/extension/threadpool/threadpool_guard.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#define EXPORT __attribute__((visibility("default")))

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::aten::TensorImpl;
using executorch::extension::BufferDataLoader;
using executorch::extension::MallocMemoryAllocator;
using executorch::extension::threadpool::NoThreadPoolGuard;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::HierarchicalAllocator;
using executorch::runtime::MemoryAllocator;
using executorch::runtime::MemoryManager;
using executorch::runtime::Method;
using executorch::runtime::Program;
using executorch::runtime::Span;

constexpr int kOutOfMemory = 1000;
constexpr int kNotFloat32 = 1001;
constexpr int kTooManyDimensions = 1002;
constexpr int kNotBindable = 1003;  // another size, or memory that the program itself has planned for it
constexpr char kMethod[] = "forward";

// What kernels ask for during one step. An arena that grows to the largest step seen, so later steps need no malloc.
class ScratchAllocator final : public MemoryAllocator {
 public:
  ScratchAllocator() : MemoryAllocator(0, nullptr) {}
  ~ScratchAllocator() override { release(); }

  void* allocate(size_t size, size_t alignment = kDefaultAlignment) override {
    if (!isPowerOf2(alignment) || size > SIZE_MAX / 2) {
      return nullptr;
    }
    const size_t needed = size + alignment;
    wanted_ += needed;
    if (arena_.size() - used_ >= needed) {
      void* found = alignPointer(arena_.data() + used_, alignment);
      used_ += needed;
      return found;
    }
    void* block = std::malloc(needed);
    if (block == nullptr) {
      return nullptr;
    }
    overflow_.push_back(block);
    return alignPointer(block, alignment);
  }

  void reset() override {
    release();
    if (wanted_ > arena_.size()) {
      arena_.resize(wanted_);
    }
    used_ = wanted_ = 0;
  }

 private:
  void release() {
    for (void* block : overflow_) {
      std::free(block);
    }
    overflow_.clear();
  }

  std::vector<uint8_t> arena_;
  std::vector<void*> overflow_;
  size_t used_ = 0;
  size_t wanted_ = 0;
};

// Members are destroyed from the last to the first: the method before the memory that it works in.
struct Engine {
  Engine(const void* bytes, size_t size) : loader(bytes, size) {}

  BufferDataLoader loader;
  std::optional<Program> program;
  MallocMemoryAllocator method_memory;
  ScratchAllocator scratch;
  std::vector<std::vector<uint8_t>> planned;
  std::vector<Span<uint8_t>> planned_spans;
  std::optional<HierarchicalAllocator> planned_memory;
  std::optional<MemoryManager> memory;
  std::optional<Method> method;
};

int code(Error error) { return static_cast<int>(error); }

int load(Engine& engine) {
  auto program = Program::load(&engine.loader, Program::Verification::InternalConsistency);
  if (!program.ok()) {
    return code(program.error());
  }
  engine.program.emplace(std::move(*program));
  auto meta = engine.program->method_meta(kMethod);
  if (!meta.ok()) {
    return code(meta.error());
  }
  for (size_t i = 0; i < meta->num_memory_planned_buffers(); ++i) {
    auto bytes = meta->memory_planned_buffer_size(i);
    if (!bytes.ok()) {
      return code(bytes.error());
    }
    engine.planned.emplace_back(static_cast<size_t>(*bytes));
  }
  for (auto& buffer : engine.planned) {
    engine.planned_spans.emplace_back(buffer.data(), buffer.size());
  }
  engine.planned_memory.emplace(Span<Span<uint8_t>>(engine.planned_spans.data(), engine.planned_spans.size()));
  engine.memory.emplace(&engine.method_memory, &*engine.planned_memory, &engine.scratch);
  auto method = engine.program->load_method(kMethod, &*engine.memory);
  if (!method.ok()) {
    return code(method.error());
  }
  engine.method.emplace(std::move(*method));
  return 0;
}

void drop_log(et_timestamp_t, et_pal_log_level_t, const char*, const char*, size_t, const char*, size_t) {}

}  // namespace

extern "C" {

// Loads a program's bytes, which must stay where they are until pulsecode_free.
EXPORT int pulsecode_load(const void* bytes, uint64_t size, void** handle) {
  *handle = nullptr;
  try {
    const NoThreadPoolGuard guard;
    auto engine = std::make_unique<Engine>(bytes, static_cast<size_t>(size));
    const int failed = load(*engine);
    if (failed == 0) {
      *handle = engine.release();
    }
    return failed;
  } catch (const std::bad_alloc&) {
    return kOutOfMemory;
  }
}

// How many inputs and outputs the program has.
EXPORT void pulsecode_count(void* handle, int32_t* inputs, int32_t* outputs) {
  const Method& method = *static_cast<Engine*>(handle)->method;
  *inputs = static_cast<int32_t>(method.inputs_size());
  *outputs = static_cast<int32_t>(method.outputs_size());
}

// Writes the shape of one float32 tensor; ``dims`` holds ``capacity`` numbers, ``rank`` receives how many are used.
EXPORT int pulsecode_shape(void* handle, int32_t output, int32_t index, int32_t* dims, int32_t capacity, int32_t* rank) {
  const auto meta = static_cast<Engine*>(handle)->method->method_meta();
  const size_t i = static_cast<size_t>(index);
  const auto tensor = output ? meta.output_tensor_meta(i) : meta.input_tensor_meta(i);
  if (!tensor.ok()) {
    return code(tensor.error());
  }
  if (tensor->scalar_type() != ScalarType::Float) {
    return kNotFloat32;
  }
  const auto sizes = tensor->sizes();
  if (sizes.size() > static_cast<size_t>(capacity)) {
    return kTooManyDimensions;
  }
  *rank = static_cast<int32_t>(sizes.size());
  for (size_t d = 0; d < sizes.size(); ++d) {
    dims[d] = sizes[d];
  }
  return 0;
}

// Ties an input tensor to ``data``, contiguous, which must stay where it is until pulsecode_free.
EXPORT int pulsecode_bind_input(void* handle, int32_t index, void* data, uint64_t bytes) {
  Method& method = *static_cast<Engine*>(handle)->method;
  const size_t i = static_cast<size_t>(index);
  const auto meta = method.method_meta().input_tensor_meta(i);
  if (!meta.ok()) {
    return code(meta.error());
  }
  if (meta->nbytes() != bytes || meta->is_memory_planned()) {
    return kNotBindable;
  }
  const auto sizes = meta->sizes();
  std::vector<TensorImpl::SizesType> shape(sizes.begin(), sizes.end());
  std::vector<TensorImpl::DimOrderType> order(shape.size());
  std::vector<TensorImpl::StridesType> strides(shape.size());
  TensorImpl::StridesType stride = 1;
  for (size_t d = shape.size(); d-- > 0; stride *= shape[d]) {
    order[d] = static_cast<TensorImpl::DimOrderType>(d);
    strides[d] = stride;
  }
  TensorImpl tensor(
      ScalarType::Float, static_cast<ssize_t>(shape.size()), shape.data(), data, order.data(), strides.data());
  return code(method.set_input(EValue(Tensor(&tensor)), i));
}

// Ties an output tensor to ``data``, contiguous, which must stay where it is until pulsecode_free.
EXPORT int pulsecode_bind_output(void* handle, int32_t index, void* data, uint64_t bytes) {
  Method& method = *static_cast<Engine*>(handle)->method;
  return code(method.set_output_data_ptr(data, static_cast<size_t>(bytes), static_cast<size_t>(index)));
}

// Runs the program on the bound tensors.
EXPORT int pulsecode_step(void* handle) {
  const NoThreadPoolGuard guard;
  return code(static_cast<Engine*>(handle)->method->execute());
}

EXPORT void pulsecode_free(void* handle) {
  const NoThreadPoolGuard guard;
  delete static_cast<Engine*>(handle);
}

// ExecuTorch writes a log line to standard error for each thing it refuses; ours reach the user as one line.
EXPORT void pulsecode_silence(void) {
  executorch::runtime::runtime_init();
  executorch::runtime::register_pal(executorch::runtime::PalImpl::create(drop_log, "pulsecode"));
}

}  // extern "C"
