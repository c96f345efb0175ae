//! What shells make of a word that is begun, asked as a person at a keyboard would, and what they are given
//! for that.

use crate::lab::{Done, product};
use std::io::Write;
use std::process::Command;
use tempfile::NamedTempFile;

/// Lines whose last word is begun, and that word in full: one for each action.
const BEGUN: &[(&str, &str)] = &[
    ("cle", "clean"),
    ("--outbound-exclude-c", "--outbound-exclude-cidrs"),
    ("apply --backe", "--backend"),
    ("clean --log-form", "--log-format"),
    ("diff --dual", "--dual-stack"),
    ("explain --liv", "--live"),
    ("verify --probe-t", "--probe-timeout"),
    ("watch --interv", "--interval"),
    ("status --form", "--format"),
];

fn script(shell: &str) -> NamedTempFile {
    let done = Done::of(product().args(["completions", shell]));
    let mut script = tempfile::Builder::new()
        .prefix("_completion")
        .tempfile()
        .expect("a temporary file");
    let text = done.must(shell);
    script.write_all(text.as_bytes()).expect("it is ours");
    script
}

/// What a shell prints that reads a program.
fn says(shell: &str, options: &[&str], program: &str) -> String {
    let mut command = Command::new(shell);
    Done::of(command.args(options).args(["-c", program])).must(program)
}

#[track_caller]
fn completes(shell: &str, line: &str, word: &str, said: &str) {
    let mut words = said.split_whitespace();
    assert!(words.any(|w| w == word), "{shell}: {line}: {said:?}");
}

#[test]
fn bash_completes_a_word_of_each_action() {
    let script = script("bash");
    for (line, word) in BEGUN {
        let program = format!(
            "source {path}; COMP_WORDS=(prepare-proxy {line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            complete=$(complete -p prepare-proxy | sed 's/.*-F \\([^ ]*\\).*/\\1/')
            $complete prepare-proxy \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"
            echo \"${{COMPREPLY[@]}}\"",
            path = script.path().display(),
        );
        completes("bash", line, word, &says("bash", &["--norc"], &program));
    }
}

#[test]
fn fish_completes_a_word_of_each_action() {
    let script = script("fish");
    for (line, word) in BEGUN {
        let path = script.path().display();
        let program = format!("source {path}; complete -C 'prepare-proxy {line}'");
        completes(
            "fish",
            line,
            word,
            &says("fish", &["--no-config"], &program),
        );
    }
}

/// In a terminal of its own: zsh completes nowhere else.
#[test]
fn zsh_completes_a_word_of_each_action() {
    let script = script("zsh");
    for (line, word) in BEGUN {
        let program = format!(
            "zmodload zsh/zpty; zpty z zsh -fi
            zpty -w z 'autoload -Uz compinit; compinit -D -u; source {path}
                prepare-proxy() {{ print \"T\"YPED: $* :END }}'
            zpty -w z 'prepare-proxy {line}'$'\\t'
            zpty -r z said '*TYPED:*:END*'
            print -r -- \"${{${{said##*TYPED:}}%%:END*}}\"",
            path = script.path().display(),
        );
        completes("zsh", line, word, &says("zsh", &["-f"], &program));
    }
}

#[test]
fn an_unknown_shell_is_refused_and_the_others_are_named() {
    let done = Done::of(product().args(["completions", "tcsh"]));
    let done = done.expect(2, "an unknown shell").unwrap();
    assert!(
        done.err.contains("tcsh") && done.err.contains("bash"),
        "{}",
        done.err
    );
}
