"""Random classes for an image without labels, so that its perturbation says something, if nothing true."""

import hashlib
import hmac

from mtlue_cli.keys import Key
from mtlue_cli.tasks.spec import TaskSet

_DOMAIN = "mtlue random class v1"


def random_classes(tasks: TaskSet, content: str, weights: str, key: Key | None) -> dict[str, int]:
    """A class index for each image-level task, uniform over its classes; the same for the same image.

    HMAC-SHA256, under the key or, for weights that take none, under their digest, of three words: the name of this
    construction, ``content`` and the task's name, each as UTF-8 after its length in bytes as 8 big-endian bytes.

    Args:
        tasks: The protected tasks; those that label every pixel get nothing.
        content: Digest of the original's bytes.
        weights: Digest of the weights.
        key: For weights that take one.
    """
    found: dict[str, int] = {}
    for task in tasks.image_level:
        words = [word.encode("utf-8", "surrogatepass") for word in (_DOMAIN, content, task.name)]
        message = b"".join(len(word).to_bytes(8, "big") + word for word in words)
        drawn = key.derive(message) if key else hmac.digest(weights.encode(), message, hashlib.sha256)
        found[task.name] = int.from_bytes(drawn, "big") % max(1, task.num_classes)
    return found
