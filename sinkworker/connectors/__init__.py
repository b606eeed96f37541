"""What a connector is: its settings, its state machine, and where it is kept."""
