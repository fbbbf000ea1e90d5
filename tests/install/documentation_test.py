#!/usr/bin/env python3
"""The manual pages and completions that the programs generate, read by man, groff and the shells themselves.

Run with the build folder in DLA_BUILD.
"""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("DLA_BUILD", ROOT / "build/release")) / "bin"
PROGRAMS = ("dla-server", "dla-client", "dla-quantize")


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, **options)
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def generated(program, what):
    return run(BIN / program, "--generate", what)


def flags_of(help_text):
    """All flags that --help lists, short and long."""
    return {flag for line in help_text.splitlines()
            for match in [re.match(r"  (-\S.*?)(?:  |$)", line)] if match
            for flag in re.findall(r"(?:^|[ ,])(--?[a-z][-a-z]*)", match.group(1))}


def commands_of(help_text):
    """The names below "Subcommands:"."""
    return re.findall(r"^  ([a-z]+) ", help_text.partition("Subcommands:\n")[2].split("\n\n")[0], re.MULTILINE)


def helps(program):
    """{command, or "" for the program: its flags}"""
    text = run(BIN / program, "--help")
    return {"": flags_of(text)} | {
        command: flags_of(run(BIN / program, command, "--help")) for command in commands_of(text)}


class Completion:
    """A real shell that has read the completion of all programs."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        for name in ("photos", "models"):
            (self.path / name).mkdir()
        (self.path / "photo one.jpg").touch()
        (self.path / "settings.yaml").touch()
        for program in PROGRAMS:
            for shell in ("bash", "zsh", "fish"):
                (self.path / f"{program}.{shell}").write_text(generated(program, shell))

    def bash(self, line):
        """What bash proposes at the end of `line`, which is split as readline does it."""
        words = re.findall(r"=|[^\s=]+", line)
        if line.endswith(" "):
            words.append("")
        script = 'program=$1; shift; . "./$program.bash"; COMP_WORDS=("$program" "$@"); COMP_CWORD=$#; ' \
                 '"$(complete -p "$program" | sed "s/.*-F \\([^ ]*\\).*/\\1/")"; printf "%s\\n" "${COMPREPLY[@]}"'
        found = run("bash", "--norc", "-c", script, "bash", *words, cwd=self.path).split("\n")
        return sorted(filter(None, found))

    def fish(self, line):
        script = f"source {line.split()[0]}.fish; complete -C '{line}'"
        return sorted(row.split("\t")[0] for row in run("fish", "--no-config", "-c", script, cwd=self.path).splitlines())

    def zsh(self, line):
        """Types `line` and a tab into an interactive zsh, which lists what there is or completes the line, and then
        a key that shows the line, after which there is nothing to wait for."""
        program = line.split()[0]
        script = f"""
            zmodload zsh/zpty
            zpty shell zsh -f -i
            zpty -w shell 'PS1=; autoload -Uz compinit; compinit -u -D; . ./{program}.zsh; zstyle ":completion:*" list-prompt ""; zstyle ":completion:*" insert-tab false'
            zpty -w shell 'show() {{ print -r -- "[$BUFFER]" do""ne; BUFFER= }}; zle -N show; bindkey "^Xs" show'
            zpty -w shell 'unsetopt automenu; setopt autolist; LISTMAX=1000; bindkey "^I" complete-word; TERM=dumb; stty cols 500; echo rea""dy'
            while zpty -r shell row; do [[ $row == *ready* && $row != *rea*dy*rea* ]] && break; done
            zpty -n -w shell {line!r}$'\\t'
            zpty -n -w shell $'\\x18s'
            while zpty -r shell row; do print -rn -- "$row"; [[ $row == *done* ]] && break; done
            zpty -d shell
        """
        return run("zsh", "-f", "-c", script, cwd=self.path)


class ManualPage(unittest.TestCase):
    def test_is_valid_for_groff_and_man(self):
        for program in PROGRAMS:
            page = generated(program, "man")
            for command in (["groff", "-ww", "-man", "-Tutf8"], ["man", "--warnings=w", "-l", "-"]):
                done = subprocess.run(command, input=page, capture_output=True, text=True, timeout=60, check=True)
                self.assertEqual(done.stderr, "", f"{command} of {program}")

    def test_has_every_flag_of_every_command_in_its_place(self):
        for program in PROGRAMS:
            page = generated(program, "man").replace("\\-", "-")
            sections = dict(re.findall(r"^\.S[SH] ([a-z]+|OPTIONS)\n(.*?)(?=^\.S[SH] [a-z]+\n|^\.SH |\Z)", page, re.M | re.S))
            for command, flags in helps(program).items():
                self.assertGreater(len(flags), 2, command)
                for flag in flags:
                    self.assertIn(f"\\fB{flag}\\fR", sections[command or "OPTIONS"], f"{program} {command}")

    def test_shows_text_as_it_stands(self):
        done = subprocess.run(["man", "-l", "-"], input=generated("dla-client", "man"), capture_output=True, text=True,
                              timeout=60, check=True, env=os.environ | {"MANWIDTH": "200", "LC_ALL": "C.UTF-8"})
        self.assertIn("dla-client classify --format csv photos/ > labels.csv", done.stdout)
        self.assertIn("HOST:PORT=localhost:8001 (or $DLA_SERVER)", done.stdout)
        self.assertIn("`dla-client COMMAND --help`", done.stdout)


class Completions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shell = Completion()

    def test_have_every_flag_of_every_command(self):
        for program in PROGRAMS:
            for command, flags in helps(program).items():
                line = f"{program} {command} -".replace("  ", " ")
                long_flags = sorted(flag for flag in flags if flag.startswith("--"))
                self.assertEqual(self.shell.bash(line), long_flags, line)
                self.assertEqual([flag for flag in self.shell.fish(line + "-")], long_flags, line)
                zsh = generated(program, "zsh")
                for flag in flags:
                    self.assertIn(f"){flag}", zsh.replace("'*-", "')-"), line)

    def test_propose_commands(self):
        commands = sorted(commands_of(run(BIN / "dla-client", "--help")))
        self.assertIn("classify", commands)
        self.assertEqual(self.shell.bash("dla-client "), commands)
        self.assertEqual(self.shell.fish("dla-client "), commands)
        for command in commands:
            self.assertIn(command, self.shell.zsh("dla-client "))

    def test_propose_the_values_of_a_choice(self):
        for line, wanted in {
                "dla-server --precision ": ["auto", "bf16", "fp16", "fp32", "int8"],
                "dla-server --precision=b": ["bf16"],
                "dla-server --device c": ["cpu", "cuda"],
                "dla-server --calibrate ": ["false", "true"],
                "dla-server --max-batch ": ["auto"],
                "dla-server --cache-config l": ["local,size="],
                "dla-server --queue-capacity ": [],
                "dla-client classify -f ": ["csv", "json", "table"],
                "dla-client models --format j": ["json"],
                "dla-client --generate ": ["bash", "fish", "man", "zsh"]}.items():
            self.assertEqual(self.shell.bash(line), wanted, line)
            if "=" not in line:
                self.assertEqual(self.shell.fish(line), wanted, line)
        self.assertRegex(self.shell.zsh("dla-server --precision "), "auto +bf16 +fp16 +fp32 +int8")

    def test_propose_files_and_folders_where_they_belong(self):
        bash = self.shell.bash
        self.assertEqual(bash("dla-client classify p"), ["photo one.jpg", "photos"])
        self.assertEqual(bash("dla-server --config s"), ["settings.yaml"])
        self.assertEqual(bash("dla-server --model-repository "), ["models", "photos"])
        self.assertEqual(bash("dla-server --model pets=m"), ["models"])
        self.assertEqual(bash("dla-server --model=pets=m"), ["models"])
        self.assertEqual(bash("dla-server --calibration-cache o"), ["off"])
        self.assertIn("settings.yaml", self.shell.fish("dla-server --config s"))
        self.assertEqual(self.shell.fish("dla-server --model-repository m"), ["models/"])
        self.assertIn("settings.yaml", self.shell.zsh("dla-server --config s"))

    def test_bash_has_it_at_the_prompt(self):
        """The programmable completion of an interactive bash, through its own readline."""
        script = f"source {self.shell.path}/dla-server.bash\nPS1='$ '\necho dla-server --precision bf\t,\nexit\n"
        # echo's own completion is that of the command word, so ask the command itself.
        script = script.replace("echo dla-server", "dla-server() { echo \"<$*>\"; }\ndla-server")
        done = subprocess.run(["script", "-qec", "bash --norc -i", "/dev/null"], input=script, capture_output=True,
                              text=True, timeout=60, env=os.environ | {"TERM": "dumb"})
        self.assertIn("<--precision bf16 ,>", done.stdout)


if __name__ == "__main__":
    unittest.main()
