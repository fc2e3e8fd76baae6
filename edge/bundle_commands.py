"""``pulsecode bundle inspect|verify|diff|sign|keygen|migrate|schema``.

Not within :mod:`edge.bundle`, whose import takes numpy with it: `pulsecode --help` imports every command.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware_bridge.cli import Command
from firmware_bridge.errors import BadInput, not_installed

if TYPE_CHECKING:
    from edge.bundle.minisign import PublicKey

DIFFERENT = 1  # diff(1)'s exit status, and that of engines that fail on their vectors


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option ``--trust`` of every command that reads a bundle."""
    parser.add_argument(
        "--trust",
        metavar="PUBKEY",
        help="refuse a bundle that this key (minisign's line RW…, or its file) did not sign",
    )


def trusted_key(args: argparse.Namespace) -> "PublicKey | None":
    """The key of ``--trust``. Raises :class:`BadInput`."""
    from edge.bundle.minisign import find_public_key

    return None if args.trust is None else find_public_key(args.trust)


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="inspect|verify|diff|sign|keygen|migrate|schema"
    )

    def action(name: str, text: str, run: Any, *, bundle: str | None = None, json: bool = True) -> Any:
        added = actions.add_parser(name, help=text, description=text)
        added.set_defaults(act=run)
        if bundle:
            added.add_argument("bundle", nargs="?" if "default" in bundle else None, help=bundle)
        if json:
            added.add_argument("--json", action="store_true", help="one JSON object instead of text")
        return added

    shipped = "folder or zip (default: the one that ships)"
    add_trust(action("inspect", "what a bundle holds", _inspect, bundle=shipped))
    verify = action("verify", "whether a bundle is whole, and on --run whether it works here", _verify, bundle=shipped)
    add_trust(verify)
    verify.add_argument("--run", action="store_true", help="run each engine installed here on the bundle's own vectors")
    diff = action("diff", "what changed between two bundles; exit status 0 same, 1 different", _diff)
    diff.add_argument("old", help="folder or zip")
    diff.add_argument("new", help="folder or zip")
    sign = action("sign", "sign a bundle, as `minisign -S` would", _sign, bundle="folder or zip")
    sign.add_argument("--key", metavar="SECRET", type=Path, required=True, help="from `keygen`, or `minisign -G -W`")
    sign.add_argument("--comment", help="trusted comment, signed with it (default: time, name and version)")
    keygen = action("keygen", "make a pair of keys; the secret one has no password, so keep its file", _keygen)
    keygen.add_argument("--out", metavar="NAME", type=Path, default=Path("pulsecode"), help="NAME.key and NAME.pub")
    migrate = action("migrate", "write a bundle of an older schema in today's", _migrate, bundle="folder or zip")
    migrate.add_argument("--out", metavar="NEW", type=Path, required=True, help="folder (or .zip) to write")
    action("schema", "the JSON Schema of a manifest", _schema, json=False)


def _print(value: Any) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def _inspect(args: argparse.Namespace) -> int:
    from edge.bundle import load_bundle
    from edge.bundle.report import as_object, describe

    bundle = load_bundle(args.bundle, trust=trusted_key(args))
    if args.json:
        _print(as_object(bundle))
    else:
        print(describe(bundle))
    return 0


def _verify(args: argparse.Namespace) -> int:
    from edge.bundle import load_bundle
    from edge.bundle.report import verdict, verdict_object

    key = trusted_key(args)
    bundle = load_bundle(args.bundle, trust=key)
    trusted = key.key_id if key else None
    answers = []
    if args.run:
        from edge.bundle.vectors import ask, installed

        names = installed(bundle)
        if not names:
            raise BadInput(
                f"bundle {bundle.path}: none of its engines ({', '.join(bundle.manifest.engines)}) is installed; "
                "run `pip install 'pulsecode[device]'`"
            )
        answers = [ask(bundle, name) for name in names]
    if args.json:
        _print(verdict_object(bundle, trusted, answers))
    else:
        print(verdict(bundle, trusted, answers))
    return 0 if all(answer.passed for answer in answers) else DIFFERENT


def _diff(args: argparse.Namespace) -> int:
    from edge.bundle import load_bundle
    from edge.bundle.diff import compare, in_words

    old, new = load_bundle(args.old), load_bundle(args.new)
    changes = compare(old, new)
    if args.json:
        _print({"type": "diff", "old": old.digest, "new": new.digest, "same": not changes, "changes": changes})
    elif changes:
        print(in_words(changes))
    return DIFFERENT if changes else 0


@contextlib.contextmanager
def _cryptography() -> Iterator[None]:
    """Says which of our extras brings what signing needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise not_installed((error.name or "").partition(".")[0], "sign") from None


def _sign(args: argparse.Namespace) -> int:
    from edge.bundle import SIGNATURE, load_bundle
    from edge.bundle.write import add_signature

    with _cryptography():
        from edge.bundle.sign import read_secret_key, sign_bundle

        bundle = load_bundle(args.bundle)
        key = read_secret_key(args.key)
        add_signature(bundle, sign_bundle(bundle, key, args.comment))
        public = key.public()
    signed = load_bundle(args.bundle, trust=public)
    said = {"type": "signed", "path": str(signed.path), "sha256": signed.digest, "key": public.key_id}
    if args.json:
        _print({**said, "public_key": public.text})
    else:
        print(f"{signed.path}: {SIGNATURE} by key {public.key_id}; trust it with --trust {public.text}")
    return 0


def _keygen(args: argparse.Namespace) -> int:
    secret, public = (args.out.with_name(f"{args.out.name}{suffix}") for suffix in (".key", ".pub"))
    with _cryptography():
        from edge.bundle.sign import make_keys

        key = make_keys(secret, public)
    if args.json:
        _print({"type": "keys", "secret": str(secret), "public": str(public), "key": key.key_id, "text": key.text})
    else:
        print(f"{secret}: secret, keep it to yourself\n{public}: public, key {key.key_id}: {key.text}")
    return 0


def _migrate(args: argparse.Namespace) -> int:
    from edge.bundle import SCHEMA, load_bundle
    from edge.bundle.write import rewrite

    bundle = load_bundle(args.bundle)
    if bundle.schema == SCHEMA:
        raise BadInput(f"bundle {bundle.path}: is of schema {SCHEMA} already; use it as it is")
    rewrite(bundle, args.out)
    fresh = load_bundle(args.out)
    if args.json:
        _print(
            {"type": "migrated", "path": str(fresh.path), "old": bundle.schema, "new": SCHEMA, "sha256": fresh.digest}
        )
    else:
        lost = "; its signature did not come along, sign it again" if bundle.signature else ""
        print(f"{fresh.path}: schema {bundle.schema} → {SCHEMA}, sha256 {fresh.digest}{lost}")
    return 0


def _schema(_: argparse.Namespace) -> int:
    from edge.bundle.schema import schema_text

    sys.stdout.write(schema_text())
    return 0


def _run(args: argparse.Namespace) -> int:
    done: int = args.act(args)
    return done


BUNDLE = Command("what a bundle holds, whether it is whole, who signed it, what changed", _configure, _run)
