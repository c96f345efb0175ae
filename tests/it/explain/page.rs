//! docs/explain.md and the program say the same. `UPDATE_DOCS=1 cargo test --test it explain::page`
//! writes into the page what the program says.

use super::explanation;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

const PROMPT: &str = "    $ prepare-proxy explain ";
/// Stands for the rest of what was printed.
const REST: &str = "    …";

/// What the program prints for a line of the page; `\` at the end of a line goes on in the next.
fn run(line: &str) -> String {
    // Quotes keep the shell from expanding a star, and no argument has a space.
    let args: Vec<String> = line
        .split_whitespace()
        .map(|w| w.replace('\'', ""))
        .collect();
    let all = ["prepare-proxy", "explain"].map(OsString::from);
    let all = all.into_iter().chain(args.into_iter().map(OsString::from));
    explanation::run(&all.collect::<Vec<_>>())
}

/// The page with every command's output as the program prints it; and all output in full.
fn with_output(page: &str) -> (String, String) {
    let (mut right, mut full) = (String::new(), String::new());
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        right += &format!("{line}\n");
        let Some(command) = line.strip_prefix(PROMPT) else {
            continue;
        };
        let mut command = command.to_owned();
        while let Some(more) = command.strip_suffix('\\') {
            let next = lines.next().expect("a command goes on");
            right += &format!("{next}\n");
            command = format!("{more} {}", next.trim());
        }
        let mut shown = Vec::new();
        let goes_on = |l: &&str| !l.starts_with(PROMPT) && (l.is_empty() || l.starts_with("    "));
        while let Some(line) = lines.next_if(goes_on) {
            shown.push(line);
        }
        let rest = shown.iter().rposition(|l| !l.is_empty());
        // The answer is never left out.
        let cut = rest.filter(|at| shown[*at] == REST).map(|at| at.max(1));
        let output = run(&command);
        full += &format!("$ prepare-proxy explain {command}\n{output}\n");
        for line in output.lines().take(cut.unwrap_or(usize::MAX)) {
            right += format!("    {line}").trim_end();
            right.push('\n');
        }
        right += &cut.map_or(String::new(), |_| format!("{REST}\n"));
        right.push('\n');
    }
    (right.trim_end().to_owned() + "\n", full)
}

#[test]
fn the_page_and_the_program_say_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/explain.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    let (right, full) = with_output(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &right).expect("the page can be written");
    } else if page != right {
        let differs = page.lines().zip(right.lines()).find(|(a, b)| a != b);
        panic!("docs/explain.md says otherwise than the program: {differs:#?}");
    }
    assert!(full.matches("$ prepare-proxy").count() >= 20);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("explain", full));
}
