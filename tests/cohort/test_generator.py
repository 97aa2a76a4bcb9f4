"""A compiled program makes the patients that the host makes, but for rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim.cohort import Cohort, table
from fedsim.cohort.draws import draws, name_words
from fedsim.cohort.generator import generator
from fedsim.config import HeartFailure
from fedsim.data.cohort_rows import CohortRows

# Of patients in whom a number differs by more than its sixth digit: those within rounding of a threshold,
# of which there are about a hundred, and of a day, by which ceil and rint decide.
OTHERWISE = 2e-3


def test_the_words_are_the_same_bits():
    index = np.arange(1000, dtype=np.uint32)
    for seed in (0, 2**40 + 3, -1):
        host = draws(np, seed, name_words("halland"), index)
        made = jax.jit(lambda i, seed=seed: draws(jnp, seed, name_words("halland"), i).words(77))(index)
        assert np.array_equal(made, host.words(77))


def test_places_looked_up_or_one_at_a_time_are_the_same_bits():
    cohort = Cohort(HeartFailure(patients=3000, outcome="survival", seed=5))
    found = table(cohort)
    region = np.repeat(np.arange(4, dtype=np.int32), cohort.sizes)
    patient = np.concatenate([rows.patient for rows in found]).astype(np.uint32)
    host = generator(cohort, np)(region, patient)
    for key in ("x", "y", "time"):
        np.testing.assert_array_equal(np.concatenate([getattr(rows, key) for rows in found]), host[key])


@pytest.mark.long  # half a minute each to compile
@pytest.mark.parametrize("outcome", ["cost", "readmission_100"])
def test_compiled_patients_are_the_host_s(outcome):
    cohort = Cohort(HeartFailure(patients=12_000, outcome=outcome, seed=5, harmonise=False))
    region = np.repeat(np.arange(4, dtype=np.int32), cohort.sizes)
    patient = np.concatenate([np.arange(n, dtype=np.uint32) for n in cohort.sizes])
    made = {key: np.asarray(v) for key, v in jax.jit(generator(cohort, jnp))(region, patient).items()}
    assert made["x"].dtype == made["y"].dtype == np.float32
    host = generator(cohort, np)(region, patient)
    differs = ~np.isclose(made["x"], host["x"], rtol=1e-5, atol=1e-5, equal_nan=True).all(axis=1)
    differs |= ~np.isclose(made["y"], host["y"], rtol=1e-5) | (made["known"] != host["known"])
    differs |= made["time"] != host["time"]
    assert differs.mean() < OTHERWISE


@pytest.mark.long
def test_rows_made_in_a_program_are_those_of_the_host():
    """As data.mode=generated makes them."""
    rows = CohortRows(HeartFailure(patients=8000, seed=5, mode="generated"))
    client = np.repeat(np.arange(4, dtype=np.uint32), rows.sizes)
    patient = np.concatenate([np.arange(n, dtype=np.uint32) for n in rows.sizes])
    made = jax.jit(lambda *at: rows.rows(jnp, *at))(client, patient)
    host = rows.rows(np, client, patient)
    assert made.keys() == host.keys() == {"x", "y"} and made["y"].dtype == host["y"].dtype == np.int32
    differs = ~np.isclose(made["x"], host["x"], rtol=1e-5, atol=1e-5, equal_nan=True).all(axis=1)
    assert (differs | (np.asarray(made["y"]) != host["y"])).mean() < OTHERWISE


@pytest.mark.long
def test_it_is_a_program_of_any_shape():
    """Mapped over regions, one patient at a time."""
    cohort = Cohort(HeartFailure(patients=400, external=()))
    rows = jax.jit(jax.vmap(jax.vmap(generator(cohort, jnp), (None, 0)), (0, None)))
    region, patient = np.arange(3, dtype=np.int32), np.arange(50, dtype=np.uint32)
    made = np.asarray(rows(region, patient)["x"])
    host = generator(cohort, np)(np.repeat(region, 50), np.tile(patient, 3))["x"].reshape(made.shape)
    assert np.isclose(made, host, rtol=1e-5, atol=1e-5, equal_nan=True).all(axis=2).mean() > 0.99
