"""The error tree: codes, hints, and the drawing at its top."""

import inspect

from rankclip import errors


def classes() -> list[type[errors.RankclipError]]:
    return [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.RankclipError)]


def test_the_drawing_names_every_class_with_its_code() -> None:
    drawing = errors.__doc__ or ""
    found = classes()
    assert len(found) >= 17
    for kind in found:
        assert kind.__name__ in drawing, kind
    for kind, code in (
        (errors.InputError, 2),
        (errors.PartialResult, 3),
        (errors.NothingToDo, 4),
        (errors.StoreError, 5),
        (errors.ModelError, 6),
        (errors.NetworkError, 7),
    ):
        assert kind.exit_code == code


def test_an_instruction_error_points_at_the_fault() -> None:
    assert errors.InstructionError("missing", text="from dark to", position=12).caret() == "from dark to\n            ^"


def test_interrupts_carry_the_signal() -> None:
    assert errors.Interrupted("stopped", signal_number=15).exit_code == 143
