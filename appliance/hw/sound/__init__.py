"""Sound devices: PortAudio in child processes, and the ReSpeaker's own functions over USB."""
