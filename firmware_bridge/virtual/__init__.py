"""The virtual sensor: a physiological model, the stories it plays, and a device that speaks PBF v1 over a pty."""
