"""What is accepted no longer fails, what is new does, and what is gone is said."""

import shutil

import pytest

from leakfree.cli import main

SKIP = ("--skip", "near_duplicates,shortcuts,shift", "--quiet")


@pytest.fixture
def folder(tmp_path, monkeypatch, write_folder, encode):
    """A folder in which one patient and one file are in both parts, and a file twice in training."""
    monkeypatch.chdir(tmp_path)
    files = {
        f"{part}/{'NORMAL' if n % 2 else 'PNEUMONIA'}/person{n}_virus_1.jpeg": encode(seed=n, size=(80, 64))
        for part, numbers in (("train", range(6)), ("test", range(20, 24)))
        for n in numbers
    }
    files["test/NORMAL/person1_virus_2.jpeg"] = encode(seed=50, size=(80, 64))
    files["test/PNEUMONIA/person90_virus_1.jpeg"] = files["train/PNEUMONIA/person0_virus_1.jpeg"]
    files["train/PNEUMONIA/person4_virus_8.jpeg"] = files["train/PNEUMONIA/person4_virus_1.jpeg"]
    return write_folder(files)


@pytest.fixture
def run(folder, capsys):
    """Audit the folder: exit code, and the lines after the report."""

    def audit(*options):
        capsys.readouterr()
        code = main(["audit", "films", *SKIP, *options])
        caught = capsys.readouterr()
        return code, [*caught.out.splitlines(), *caught.err.splitlines()[-1:]]

    return audit


def accepted(run):
    code, lines = run("--baseline", "known.yaml", "--accept", "kept for the paper")
    assert code == 0 and "known.yaml: written, 4 findings accepted" in lines
    return "known.yaml"


def test_accepted_findings_do_not_fail_and_new_ones_do(run, folder, encode):
    assert run()[0] == 1
    accepted(run)
    assert run("--baseline", "known.yaml")[0] == 0
    new = folder / "test/NORMAL/person3_virus_9.jpeg"
    new.write_bytes(encode(seed=60, size=(80, 64)))
    code, lines = run("--baseline", "known.yaml")
    pair = "test/NORMAL/person3_virus_9.jpeg, train/NORMAL/person3_virus_1.jpeg"
    assert code == 1
    assert {f"new: patients: {pair}", f"new: linked_groups: {pair}"} <= set(lines)


def test_a_third_image_beside_an_accepted_pair_is_new(run, folder):
    accepted(run)
    one = folder / "train/PNEUMONIA/person0_virus_1.jpeg"
    shutil.copy(one, folder / "test/PNEUMONIA/person95_virus_1.jpeg")
    code, lines = run("--baseline", "known.yaml")
    assert code == 1 and any(line.startswith("new: exact_duplicates: ") for line in lines)


def test_what_is_gone_is_said_with_its_reason(run, folder):
    accepted(run)
    (folder / "test/PNEUMONIA/person90_virus_1.jpeg").unlink()
    code, lines = run("--baseline", "known.yaml")
    gone = [line for line in lines if line.startswith("gone: exact_duplicates")]
    assert code == 0 and len(gone) == 1 and "kept for the paper" in gone[0]


def test_what_was_not_looked_at_is_not_gone(run):
    accepted(run)
    _, lines = run("--baseline", "known.yaml", "--skip", "patients")
    assert any(line.startswith("not looked at: patients") for line in lines)
    assert not any(line.startswith("gone") for line in lines)


def test_reasons_stay_when_more_is_accepted(run, folder, encode):
    accepted(run)
    (folder / "test/NORMAL/person3_virus_9.jpeg").write_bytes(encode(seed=60, size=(80, 64)))
    assert run("--baseline", "known.yaml", "--accept", "later")[0] == 0
    text = (folder.parent / "known.yaml").read_text()
    assert text.count("reason: kept for the paper") == 4 and text.count("reason: later") == 2


def test_two_audits_are_compared(run, folder, encode):
    run("--json", "old.json")
    assert run("--diff", "old.json")[1][0] == "No finding appeared or went since old.json."
    (folder / "test/PNEUMONIA/person90_virus_1.jpeg").unlink()
    (folder / "test/NORMAL/person3_virus_9.jpeg").write_bytes(encode(seed=60, size=(80, 64)))
    code, lines = run("--diff", "old.json")
    assert code == 1
    pair = "test/PNEUMONIA/person90_virus_1.jpeg, train/PNEUMONIA/person0_virus_1.jpeg"
    assert f"went: exact_duplicates: {pair}" in lines
    assert any(line.startswith("appeared: patients: test/NORMAL/person3") for line in lines)
    assert "exact_duplicates: FAIL before, WARN now" in lines  # the copy inside training is still there


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "cannot be read as a baseline"),
        ("{}", "does not say format"),
        ("format: leakfree-baseline/1\naccepted: 3", "accepted is no list"),
        ("format: leakfree-baseline/1\naccepted: [{check: patients}]", "entry 1: needs check, date, files"),
        (
            "format: leakfree-baseline/1\naccepted: [{check: a, files: [b], reason: ' ', date: 2026-01-31}]",
            "has no reason",
        ),
        (
            "format: leakfree-baseline/1\naccepted: [{check: a, files: [b], reason: c, date: soon}]",
            "is no date",
        ),
        (
            "format: leakfree-baseline/1\na0: &a0 [x]\n"
            + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10))
            + "accepted: [{check: a, files: [b], reason: c, date: *a9}]",
            "check and date are one word each",
        ),
    ],
)
def test_a_broken_baseline_is_one_line(run, folder, text, reason):
    (folder.parent / "known.yaml").write_text(text)
    code, lines = run("--baseline", "known.yaml")
    assert code == 2 and "known.yaml" in lines[-1] and reason in lines[-1]


def test_options_that_do_not_go_together_are_one_line(run):
    assert run("--accept", "why")[0] == 2
    assert run("--baseline", "nowhere.yaml")[0] == 2
    assert run("--diff", "nowhere.json")[0] == 2
