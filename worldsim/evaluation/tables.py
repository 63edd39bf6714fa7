"""How well codes tell controls apart: statistics of how often the one came with the other.

Tables are counts (..., A, K), A controls by K codes; every statistic takes any number of them at
once, which is how its bootstrap over units is made.

    nmi       2 I(control; code) / (H(control) + H(code))
    purity    share of the frames whose control is the most frequent one of their code
    balanced  a code -> control dictionary: mean over controls of the share that it gets right
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from worldsim.evaluation.intervals import Graded, interval, missing, resamples

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Statistic = Callable[[Floats], Floats]


def count(controls: Ints, codes: Ints, num_controls: int, num_codes: int) -> Floats:
    """(N,) of each -> (A, K)."""
    table = np.zeros((num_controls, num_codes))
    np.add.at(table, (controls, codes), 1)
    return table


def graded(tables: Floats, statistic: Statistic) -> Graded:
    """`statistic` of the sum of all units' tables (U, A, K), with its interval over units."""
    if tables.sum() == 0:
        return missing("no frame has both a control and a code")
    units, *shape = tables.shape
    draws = (resamples(units) @ tables.reshape(units, -1)).reshape(-1, *shape)
    return interval(float(statistic(tables.sum(axis=0))), statistic(draws), units)


def perplexity(tables: Floats) -> Floats:
    """exp H(code): how many codes are in use, 1 .. K."""
    return np.asarray(np.exp(_entropy(_shares(tables).sum(axis=-2))))


def nmi(tables: Floats) -> Floats:
    """Normalized mutual information, 0 .. 1; 0 where one of the two never changes."""
    joint = _shares(tables)
    control, code = _entropy(joint.sum(axis=-1)), _entropy(joint.sum(axis=-2))
    both = _entropy(joint.reshape(*joint.shape[:-2], -1))
    return _divide(2 * np.maximum(control + code - both, 0), control + code)


def purity(tables: Floats) -> Floats:
    """0 .. 1."""
    return _divide(tables.max(axis=-2).sum(axis=-1), tables.sum(axis=(-2, -1)))


def balanced(tables: Floats, dictionary: Ints) -> Floats:
    """0 .. 1, over the controls that occur: `dictionary` (K,) is the control of each code."""
    right = dictionary == np.arange(tables.shape[-2])[:, None]
    seen = tables.sum(axis=-1)
    share = _divide((tables * right).sum(axis=-1), seen)
    return _divide(share.sum(axis=-1), (seen > 0).sum(axis=-1).astype(np.float64))


def dictionary(table: Floats) -> Ints:
    """The most frequent control of each code, (A, K) -> (K,); the most frequent one of all for a
    code that does not occur."""
    best: Ints = np.where(table.sum(axis=0) > 0, table.argmax(axis=0), table.sum(axis=1).argmax())
    return best


def _shares(tables: Floats) -> Floats:
    return _divide(tables, tables.sum(axis=(-2, -1), keepdims=True))


def _entropy(shares: Floats) -> Floats:
    """Over the last axis, in nats."""
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(axis=-1))


def _divide(above: Floats, below: Floats) -> Floats:
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
