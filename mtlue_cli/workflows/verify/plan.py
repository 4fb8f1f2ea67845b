"""What the options of a verification come to, before any image is read."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from mtlue_cli.choices import (
    LearnerName,
    MetricName,
    ProbeName,
    Tier,
    TrainingMethodName,
)
from mtlue_cli.engines.engine import check_engine
from mtlue_cli.errors import InputError
from mtlue_cli.generator.checkpoint import read_card
from mtlue_cli.generator.shipped import is_shipped, shipped_weights
from mtlue_cli.networks.backbones import BACKBONES
from mtlue_cli.release.records import read_run
from mtlue_cli.tasks.spec import TaskSet
from mtlue_cli.training.methods import METHODS, MethodChoice
from mtlue_cli.training.multitask_loop import steps_an_epoch
from mtlue_cli.training.named_settings import choose, choose_all, combined
from mtlue_cli.training.pretrained import PACKAGED, USUAL_START
from mtlue_cli.verification.conditions import Condition, VictimSpec, plan_conditions, plan_victims
from mtlue_cli.verification.countermeasures.registry import COUNTERMEASURES, countermeasure_named
from mtlue_cli.verification.experiment import NO_SERVICE
from mtlue_cli.verification.tiers import TIERS, NotTested, not_tested
from mtlue_cli.weightings import INSTALL, WEIGHTINGS, require_installed
from mtlue_cli.workflows.verify.config import VerifyConfig, check_options

DEFAULT_EPOCHS = 8
DEFAULT_BATCH_SIZE = 128


@dataclass(frozen=True)
class VerifyPlan:
    """What a verification will run.

    Attributes:
        conditions: In order; each is run with every seed.
        probes: What is measured without a victim.
        left_out: What the laboratory offers and this run does not try.
        epochs: Of every victim at least; ask :meth:`epochs_with` for how many it is.
        batch_size: Of every victim.
        limit: Images that are used at most; None: all.
        least_steps: Optimiser steps of every victim at least; 0: ``epochs`` alone decide.
        asked: The conditions that options ask for; the others are what a tier brings along.
    """

    conditions: tuple[Condition, ...]
    probes: tuple[ProbeName, ...]
    left_out: tuple[NotTested, ...]
    epochs: int
    batch_size: int
    limit: int | None
    least_steps: int = 0
    asked: frozenset[Condition] = frozenset()

    def epochs_with(self, images: int) -> int:
        """Epochs of every victim when there are ``images`` training images."""
        steps = max(1, steps_an_epoch(images, self.batch_size))
        return max(self.epochs, -(-self.least_steps // steps))

    @property
    def victims(self) -> tuple[VictimSpec, ...]:
        """The victims of all conditions, each once."""
        return tuple(dict.fromkeys(condition.victim for condition in self.conditions))


def settings_to_json(config: VerifyConfig, plan: VerifyPlan) -> dict[str, Any]:
    """What was asked for, JSON-ready; ``epochs`` is final once the training images are known."""
    document: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    for name in ("command_line", "engine", "ray_address"):  # none decides what is found
        del document[name]
    del document["reading"]["maps_folder"]
    for declaration in document["reading"]["declarations"]:
        del declaration["ids"]  # only readers state them
    names = ("epochs", "least_steps", "batch_size", "limit")
    return document | {name: getattr(plan, name) for name in names}


def checked_plan(config: VerifyConfig) -> VerifyPlan:
    """:func:`plan_verification`, after a look at whether all options go together.

    Raises:
        InputError: They do not; says what to do instead.
    """
    check_options(config)
    check_engine(config.engine, config.ray_address)
    for name in config.weightings or ():
        require_installed(name, WEIGHTINGS[name])
    if config.weightings and config.learners and LearnerName.MTL not in config.learners:
        raise InputError("--weighting weighs the tasks of one network; --learner stl trains one network per task")
    plan = plan_verification(config)
    used = {victim.backbone for victim in plan.victims}
    small = [name.value for name in used if BACKBONES[name].smallest_side > config.size]
    if small:
        raise InputError(
            f"--size {config.size} is too small for {', '.join(sorted(small))}", hint="use --size 32 or more"
        )
    tuned = [victim for victim in plan.victims if victim.method.needs_start]
    waiting = [victim for victim in tuned if victim.backbone not in PACKAGED]
    if waiting and not config.has_start:
        raise InputError(
            f"--method {waiting[0].method.name} starts from a pretrained backbone, and none is given for "
            f"{waiting[0].backbone.value}",
            hint="give one with --start FILE|timm:NAME, images to train one on first with --pretrain-images DIR "
            f"--pretrain-labels FILE, or use --backbone {USUAL_START.value}",
        )
    purified = [one for one in plan.conditions if one.attack.needs_own_images]
    if purified and config.attacker_images is None:
        raise InputError(
            f"{purified[0].name}: the attacker needs clean images of his own",
            hint="give them with --attacker-images DIR",
        )
    served = [one for one in plan.conditions if one.attack.needs_own_pairs]
    if served and config.weights is None:
        raise InputError(f"{served[0].name}: {NO_SERVICE}")
    if config.attacker_images is not None and not purified:
        raise InputError(
            "no countermeasure of this plan uses --attacker-images", hint="add --countermeasure purification"
        )
    if config.gradual is not None and plan.conditions[0].victim.method.variant == TrainingMethodName.STAGED:
        raise InputError(
            "--gradual and --method staged do not go together: what is frozen learns nothing from later releases",
            hint="name another --method first",
        )
    if config.has_start and not tuned:
        raise InputError("no victim of this plan uses a start", hint="add --method head, gps or full")
    return plan


def require_fit(config: VerifyConfig, plan: VerifyPlan, tasks: TaskSet) -> None:
    """Refuse what was asked for and cannot be tried on ``tasks``; a tier's countermeasures are left to the run.

    Raises:
        InputError: Lists every one with its reason.
    """
    if config.confidence is not None and len(tasks.dense):
        named = ", ".join(tasks.dense.names)
        raise InputError(f"--confidence is for labels of whole images; these label every pixel: {named}")
    has_weights = attackers_weights(config.weights, config.protected) is not None

    def require(condition: Condition) -> None:
        condition.notes(tasks)
        if condition.countermeasure is not None:
            condition.countermeasure.require_fit(tasks, config.size, has_weights=has_weights)

    require_asked(plan, require)


def plan_notes(plan: VerifyPlan, tasks: TaskSet) -> tuple[str, ...]:
    """What a reader should know of the conditions before work starts; those that do not fit are reported elsewhere."""
    notes: list[str] = []
    for condition in plan.conditions:
        with suppress(InputError):
            notes += condition.notes(tasks)
    return tuple(dict.fromkeys(notes))


def require_asked(plan: VerifyPlan, require: Callable[[Condition], None]) -> None:
    """Call ``require`` with every condition that was asked for, and report all its errors together.

    Raises:
        InputError: Lists the conditions that ``require`` refuses; of several with the same reason, the first.
    """
    errors: dict[str, InputError] = {}
    for condition in plan.conditions:
        if condition in plan.asked:
            try:
                require(condition)
            except InputError as error:
                refused = InputError(f"{condition.name}: {error}", error.faults, error.hint)
                errors.setdefault(reason_of(error), refused)
    if errors:
        raise combined("some requested conditions cannot be run", errors.values())


def reason_of(error: Exception) -> str:
    """An error with all its faults on one line."""
    faults = "; ".join(error.faults) if isinstance(error, InputError) else ""
    return f"{error}: {faults}" if faults else str(error)


def plan_verification(config: VerifyConfig) -> VerifyPlan:
    """What a verification will run.

    Raises:
        InputError: Methods or countermeasures are not understood.
    """
    errors: list[InputError] = []
    methods = choose_all(partial(choose, "--method", registered=METHODS.values()), config.methods or (), errors)
    named = choose_all(partial(countermeasure_named, kind="--countermeasure"), config.countermeasures or (), errors)
    if errors:
        raise combined("some settings are not valid", errors)
    tier = TIERS[config.tier] if config.tier is not None else None
    wanted = _victims(config, methods, tier.victims if tier is not None else (VictimSpec(),))
    victims = [victim for victim in wanted if not WEIGHTINGS[victim.weighting].missing()]
    named_only = _named_only(config)
    usual = tuple(choice for choice in (tier.countermeasures if tier else ()) if choice.name not in named_only)
    countermeasures = _chosen(None if config.countermeasures is None else named, usual)
    fractions = _chosen(config.fractions, tier.fractions if tier else ())
    conditions = plan_conditions(
        victims, countermeasures, fractions, trajectory=config.gradual or (), control=config.control
    )
    probes = tuple(ProbeName) if config.probes else ()
    untried = not_tested(conditions, probes)
    reasons = {f"countermeasure {name}": why for name, why in named_only.items()}
    reasons |= {
        f"weighting {name.value}": f"needs {', '.join(spec.missing())}: {INSTALL}"
        for name, spec in WEIGHTINGS.items()
        if spec.missing()
    }
    if config.metric is not MetricName.ACCURACY:
        untried = (*untried, NotTested("early stopping", "it is measured under --metric accuracy only"))
    return VerifyPlan(
        conditions,
        probes,
        tuple(structs.replace(left, reason=reasons.get(left.name, left.reason)) for left in untried),
        config.epochs or (tier.epochs if tier else DEFAULT_EPOCHS),
        config.batch_size or (tier.batch_size if tier else DEFAULT_BATCH_SIZE),
        config.limit or (tier.limit if tier else None),
        tier.least_steps if tier is not None and config.epochs is None else 0,
        frozenset(condition for condition in conditions if _is_asked_for(condition, conditions[0], config)),
    )


def _named_only(config: VerifyConfig) -> dict[str, str]:
    """Countermeasures that this run tries only if an option names them, each with the reason."""
    is_public = published_weights(config.weights, config.protected) is not None
    reasons: dict[str, str] = {}
    for choice in COUNTERMEASURES.values():
        if not is_public and choice.of_published_weights:
            reasons[choice.name] = "the generator is assumed to be private; name it to try it anyway"
        elif config.attacker_images is None and choice.settings.needs_own_images:
            reasons[choice.name] = "needs --attacker-images: clean images"
        elif config.weights is None and choice.settings.needs_own_pairs:
            reasons[choice.name] = NO_SERVICE
    return reasons


def _is_asked_for(condition: Condition, first: Condition, config: VerifyConfig) -> bool:
    """Whether options ask for it, rather than a tier alone; clean images, release and noise always are."""
    if condition.victim != first.victim:
        return config.names_victims
    if condition.countermeasure is not None:
        return config.countermeasures is not None
    return condition.protected_fraction == 1 or config.fractions is not None


def _victims(
    config: VerifyConfig, methods: tuple[MethodChoice[Any], ...], usual: Sequence[VictimSpec]
) -> tuple[VictimSpec, ...]:
    first = usual[0]
    usual_backbone = next((name for name in PACKAGED if name == config.start), first.backbone)
    if config.names_victims:
        return plan_victims(
            config.backbones or (usual_backbone,),
            config.learners or (first.learner,),
            config.weightings or (first.weighting,),
            methods or (first.method,),
        )
    if not config.has_start and config.tier is not None and config.tier.includes(Tier.STANDARD):
        usual_backbone = USUAL_START
    elif config.tier is None or not config.has_start:
        return tuple(usual)
    tuned = (VictimSpec(usual_backbone, method=method) for method in METHODS.values() if method.needs_start)
    return (*usual, *tuned)


def _chosen(given: tuple[Any, ...] | None, usual: tuple[Any, ...]) -> tuple[Any, ...]:
    return usual if given is None else tuple(dict.fromkeys(given))


def published_weights(weights: str | None, protected: Path | None) -> Path | None:
    """The generator that is judged, or made the release, if it comes with the program, so that anyone has it."""
    shipped = shipped_weights()
    if weights is not None:
        path = shipped.get(weights, Path(weights))
        return path if weights in shipped or is_shipped(path) else None
    if protected is None:
        return None
    try:
        used = read_run(protected).weights_sha256
    except InputError:
        return None
    return next((path for path in shipped.values() if read_card(path).digest == used), None)


def attackers_weights(weights: str | None, protected: Path | None) -> Path | None:
    """The generator that an attacker is given: the one that is judged, published or not, or a release's if it is."""
    if weights is not None:
        return shipped_weights().get(weights, Path(weights))
    return published_weights(weights, protected)
