"""The shape of the house: names that match, thin scripts, columns that are complete."""

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {
    *("workflow", "scripts", "config", "unetpipe", "tests", "README.md"),
    *("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"),
    *("pyproject.toml", "constraints.txt", "Makefile", ".ci", ".gitignore"),
    *(".pre-commit-config.yaml", ".snakemake-workflow-catalog.yml"),
    *("Dockerfile", ".dockerignore"),
}
RULE_FILES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
RULES = {
    name: body
    for path in RULE_FILES
    for name, body in re.findall(
        r"^rule (\w+):\n((?:(?:[ \t].*)?\n)*)", path.read_text(), flags=re.MULTILINE
    )
}
# A benchmark counts as an output, and these run whenever they are asked.
ASKED_FOR = set(
    re.findall(r"^rule (\w+):", (ROOT / "workflow/rules/asking.smk").read_text(), re.M)
)
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
STAGES = sorted(
    path
    for path in (ROOT / "unetpipe" / "stages").glob("*.py")
    if path.stem != "__init__"
)
MODULES = sorted((ROOT / "unetpipe").rglob("*.py"))
# Commands of their own: they write what a workflow starts from.
COMMANDS = {"make_sheet"}
LOGIC = (ast.If, ast.For, ast.While, ast.Try, ast.FunctionDef, ast.ClassDef, ast.Lambda)


def imports(path: Path) -> set[str]:
    """Return the roots of what a module imports, e.g. torch."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def contract(words: str) -> dict[str, list[str]]:
    """Return the import contract whose name holds these words."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    (found,) = [c for c in tools["importlinter"]["contracts"] if words in c["name"]]
    return dict(found)


def test_the_top_level_holds_exactly_the_agreed_entries() -> None:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the project is not known")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    entries = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert entries == TOP_LEVEL


def leaves_a_record(body: str) -> bool:
    """Return whether a rule has an output that tells what was asked of it."""
    told = re.search(r"^    output:\n((?:        .*\n)+)", body, re.MULTILINE)
    return bool(told and re.search(r"^ +(record|manifest|model_json)=", told[1], re.M))


def test_there_are_rules_to_check() -> None:
    assert {"download_dataset", "train_unet", "report"} <= set(RULES)


def test_rules_scripts_and_stages_have_the_same_names() -> None:
    assert set(RULES) | COMMANDS == {path.stem for path in SCRIPTS}
    assert set(RULES) | COMMANDS == {path.stem for path in STAGES}


@pytest.mark.parametrize("stage", STAGES, ids=lambda path: path.stem)
def test_a_stage_is_a_function_with_the_name_of_its_file(stage: Path) -> None:
    functions = [
        node
        for node in ast.parse(stage.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in functions] == [stage.stem]
    assert functions[0].args.args == [], "a stage takes keywords only"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_only_calls_its_stage(script: Path) -> None:
    source = script.read_text()
    assert len(source.splitlines()) <= 27
    tree = ast.parse(source)
    assert not [node for node in ast.walk(tree) if isinstance(node, LOGIC)]
    calls = [
        node.value.func.id
        for node in tree.body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
    ]
    logs = "log_to_screen" if script.stem in COMMANDS else "log_to"
    notes = ["note_asked"] if leaves_a_record(RULES.get(script.stem, "")) else []
    assert calls == [logs, script.stem, *notes]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_names_its_script_log_benchmark_message_and_code(rule: str) -> None:
    body = RULES[rule]
    assert f"scripts/{rule}.py" in body
    assert re.search(rf'fingerprint\(\s*"unetpipe\.stages\.{rule}"', body)
    keywords = {"log", "benchmark"} if rule not in ASKED_FOR else {"log"}
    for keyword in (*keywords, "message"):
        assert re.search(rf"^    {keyword}:", body, flags=re.MULTILINE), keyword
    for keyword in keywords:
        found = re.search(rf"^    {keyword}:\s+(.+)", body, flags=re.MULTILINE)
        assert found, keyword
        assert f'PATHS.{keyword}("{rule}"' in found[1], f"{keyword} is named so"


def test_the_snakefile_is_a_contents_page() -> None:
    lines = (ROOT / "workflow" / "Snakefile").read_text().splitlines()
    assert len(lines) < 60


def test_imports_are_absolute() -> None:
    # The fingerprints follow absolute imports only.
    relative = [
        f"{module.name}: line {node.lineno}"
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_every_room_has_its_place_and_says_what_it_is_for() -> None:
    rooms = {path.parent.name for path in (ROOT / "unetpipe").glob("*/__init__.py")}
    lines = contract("A room imports only")["layers"]
    named = {room for line in lines for room in re.findall(r"\w+", line)}
    assert named == rooms | {"errors", "worker", "deploy"}
    for room in rooms:
        text = (ROOT / "unetpipe" / room / "__init__.py").read_text()
        assert re.match(r'"""[A-Z][^\n]{20,}', text), room


def test_no_module_stands_outside_a_room() -> None:
    loose = {path.stem for path in (ROOT / "unetpipe").glob("*.py")}
    assert loose == {"__init__", "errors", "worker", "deploy"}


def test_rooms_with_torch_and_rooms_with_zarr_are_kept_apart() -> None:
    torch = set(contract("Torch rooms")["source_modules"])
    others = set(contract("No other room reaches torch")["source_modules"])
    for path in MODULES:
        parts = path.relative_to(ROOT / "unetpipe").parts
        if parts[0] == "stages" or len(parts) == 1:
            continue
        room = f"unetpipe.{parts[0]}"
        if "torch" in imports(path):
            assert room in torch, path
        if "zarr" in imports(path):
            assert room in others, path


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "base", "core"])
def test_no_module_has_a_name_that_says_nothing(name: str) -> None:
    assert name not in {path.stem for path in MODULES}
