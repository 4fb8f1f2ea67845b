"""Start training from existing weights: universal ones under a key, or those of another run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import LoadedGenerator, load_checkpoint
from mtlue_cli.generator.label_embedding import LabelEmbedding
from mtlue_cli.generator.model import GeneratorConfig, PerturbationGenerator
from mtlue_cli.generator.shipped import find_weights
from mtlue_cli.keys import FoundKey
from mtlue_cli.tasks.classes import image_level_shares
from mtlue_cli.tasks.spec import LabelTable, TaskSet
from mtlue_cli.tasks.wording import quoted
from mtlue_cli.workflows.protect.keyed import key_for


@dataclass(frozen=True)
class TrainingStart:
    """A generator that knows the tasks at hand.

    Attributes:
        loaded: Bound to the key if it is universal.
        key: That key; None if it is not.
    """

    loaded: LoadedGenerator
    key: FoundKey | None

    @property
    def is_trained(self) -> bool:
        """Whether its network draws anything; that of ``default`` does not."""
        return bool(self.loaded.generator.decoder.draws)

    def to_json(self) -> dict[str, str | None]:
        """What identifies it, for a checkpoint's settings."""
        card = self.loaded.card
        fingerprint = None if self.key is None else self.key.key.fingerprint
        return {"name": card.name, "digest": card.digest, "key_fingerprint": fingerprint}

    def generator(
        self,
        tasks: TaskSet,
        epsilon: int,
        image_size: int,
        seed: int,
        priors: Sequence[Sequence[float]],
        gain: float,
        chroma: float | None = None,
    ) -> PerturbationGenerator:
        """A generator with learned embeddings for ``tasks``, which fit, that begins as this one.

        Its class maps are copies of this one's, by name; a universal start gives the maps of its codes. The embedding
        of a dense task begins anew if this one is universal or has other classes. ``gain`` is that of the patterns if
        this one draws nothing beside them; else the learned gain stays. ``chroma`` None: that of this one.
        """
        known = self.loaded.generator
        shape = replace(GeneratorConfig(**self.loaded.card.generator), epsilon=epsilon, image_size=image_size)
        if chroma is not None:
            shape = replace(shape, chroma=chroma)
        decoder = known.decoder.state_dict()
        if not self.is_trained:
            shape = replace(shape, pattern_gain=gain)
            decoder["gain"] = torch.tensor(gain)
        generator = PerturbationGenerator(shape, tasks, seed, priors)
        generator.image_encoder.load_state_dict(known.image_encoder.state_dict())
        generator.decoder.load_state_dict(decoder)
        embedding = generator.label_embedding
        assert isinstance(embedding, LabelEmbedding)  # it was made for tasks
        for task in tasks.image_level:
            index_of = {name: index for index, name in enumerate(known.tasks[task.name].classes)}
            maps = known.label_embedding.of_task(task.name).detach()
            embedding.of_task(task.name).data.copy_(maps[[index_of[name] for name in task.classes]])
        for task in tasks.dense if not self.loaded.card.universal else ():
            alike = type(generator.dense_embeddings) is type(known.dense_embeddings)
            if alike and task.classes == known.tasks[task.name].classes:
                learned = known.dense_embeddings.of_task(task.name).state_dict()
                generator.dense_embeddings.of_task(task.name).load_state_dict(learned)
        return generator


def read_start(weights: str, key: Path | None, labels: LabelTable) -> TrainingStart:
    """The generator of ``weights``, a file or the name of shipped weights, for these labels.

    Raises:
        InputError: There is none, its key cannot be read, or it does not know a task or a class.
    """
    loaded = load_checkpoint(find_weights(weights))
    found = key_for(loaded.card, key)
    tasks = labels.tasks
    if found is not None:
        coded = tasks.image_level
        return TrainingStart(loaded.bound(found.key, coded, image_level_shares(labels.columns, coded)), found)
    known = loaded.card.tasks
    faults = [f"it has no task {quoted(name)}" for name in tasks.names if name not in known]
    faults += known.subset(tasks.names).unmet_by(tasks)
    if faults:
        raise InputError(
            f"--from: the weights {loaded.card.name} do not know these labels",
            faults,
            "start from universal weights, or name the columns that it knows with --tasks",
        )
    return TrainingStart(loaded, None)
