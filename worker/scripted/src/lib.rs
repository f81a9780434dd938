//! What of the scripted trainer others may try: its checkpoints.

pub mod checkpoint;
