"""The wish to stop, as long work hears it."""

import signal

import pytest

from fedsim.base import INCOMPLETE, Interrupted
from fedsim.cli import stopping


@pytest.mark.parametrize("number", stopping.WARNINGS)
def test_a_warning_is_a_wish(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as raised, stopping.listening() as stopped:
        assert not stopped()
        signal.raise_signal(number)
        assert stopped()
        raise Interrupted("saved")
    assert raised.value.exit_code == INCOMPLETE and signal.getsignal(number) is before


def test_the_first_interruption_saves_and_the_second_does_not(capsys):
    with pytest.raises(KeyboardInterrupt), stopping.listening() as stopped:
        signal.raise_signal(signal.SIGINT)
        assert stopped() and "Ctrl-C again stops at once" in capsys.readouterr().err
        raise Interrupted("saved")
    with pytest.raises(KeyboardInterrupt), stopping.listening() as stopped:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one was not heard")
