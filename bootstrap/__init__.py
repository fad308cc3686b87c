"""The bootstrap: the entry point of one group, which it founds and whose secret it keeps."""
