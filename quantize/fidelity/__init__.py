"""What int8 cost: every artefact beside fp32, by token, layer and head and over an hour of alarms; and the gate."""
