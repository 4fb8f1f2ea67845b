"""Codes that another key might have drawn, given some that are known already.

The codes of a key are fixed lengths and angles in a direction that the key draws: turning all of them about the origin
by any orthogonal matrix gives codes that are just as likely (:mod:`mtlue_cli.generator.codebook`: every axis comes from
normal numbers, made orthogonal). So, for whoever knows some of the codes, turning the others about the span of these
gives codes that are just as likely as the true ones.
"""

import numpy as np

from mtlue_cli.generator.codebook import Numbers

_NOTHING = 1e-9
"""Length, as a share of the longest, below which a direction is rounding."""


def decoys(codes: Numbers, known: Numbers, count: int, rng: np.random.Generator) -> Numbers:
    """Codes that are exchangeable with ``codes`` for whoever knows ``known``, all of one key.

    Args:
        codes: ``(u, d)``.
        known: ``(k, d)``, what stays; may be empty.
        count: How many sets of codes.
        rng: Source of the turns.

    Returns:
        ``(count, u, d)``: lengths, angles among them and angles with ``known`` are those of ``codes``. They are
        ``codes`` themselves where nothing can be turned, as codes in the span of ``known``.
    """
    basis = _row_space(known)
    fixed = _within(codes, basis)
    left, sizes, _ = np.linalg.svd(codes - fixed, full_matrices=False)
    longest = float(np.linalg.norm(codes, axis=1).max(initial=0.0))
    rank = int((sizes > _NOTHING * max(longest, 1.0)).sum())
    rank = min(rank, codes.shape[1] - len(basis))
    parts = left[:, :rank] * sizes[:rank]
    return np.stack([fixed + parts @ _frame(rank, basis, codes.shape[1], rng) for _ in range(count)])


def _frame(rank: int, basis: Numbers, dimension: int, rng: np.random.Generator) -> Numbers:
    """``rank`` orthonormal rows, uniform among those that are orthogonal to the rows of ``basis``."""
    drawn = rng.standard_normal((rank, dimension))
    for _ in range(2):  # twice, against rounding
        drawn = drawn - _within(drawn, basis)
    orthonormal, upper = np.linalg.qr(drawn.T)
    # Uniform only if the signs are those of Gram and Schmidt.
    frame: Numbers = (orthonormal * np.sign(np.diag(upper))).T
    return frame


def _within(rows: Numbers, basis: Numbers) -> Numbers:
    """The part of ``rows`` in the span of ``basis``, whose rows are orthonormal."""
    found: Numbers = (rows @ basis.T) @ basis
    return found


def _row_space(rows: Numbers) -> Numbers:
    """An orthonormal basis of the span of ``rows``."""
    if not len(rows):
        return rows
    _, sizes, found = np.linalg.svd(rows, full_matrices=False)
    basis: Numbers = found[: int((sizes > _NOTHING * max(float(sizes[0]), 1.0)).sum())]
    return basis
