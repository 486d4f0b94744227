"""Where frames come from: files, folders, streams, cameras; and what is made of them: tracks, events, snapshots, clips."""
