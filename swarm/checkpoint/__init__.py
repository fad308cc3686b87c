"""Reading models: one span of blocks, or the client's part, and nothing else.

A model is a Hugging Face repo id, a folder with safetensors, or a `.gguf` file:

    with open_checkpoint("HuggingFaceTB/SmolLM2-135M-Instruct") as checkpoint:
        state = checkpoint.load_blocks(0, 10, torch.bfloat16)

Everything here blocks (disk, network); an event loop calls it in a thread.
"""

from .checkpoint import Checkpoint, open_checkpoint
from .progress import Progress

__all__ = ["Checkpoint", "Progress", "open_checkpoint"]
