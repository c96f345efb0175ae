//! The house keeps its shape: imports go one way, and pure code stays pure.

use std::fs;
use std::path::{Path, PathBuf};

/// What each room of `src/` may use of the others. A room that is not listed may use everything.
const ROOMS: &[(&str, &[&str])] = &[
    ("ruleset", &[]),
    ("packet", &["ruleset"]),
    ("ownership", &["ruleset"]),
    ("config", &["ownership", "ruleset"]),
    ("mesh", &["config", "ownership", "ruleset"]),
    ("netlink", &[]),
    ("backend", &["netlink", "ruleset"]),
    ("routing", &["netlink", "ruleset"]),
    ("conntrack", &["netlink", "ruleset"]),
    (
        "ops",
        &[
            "backend",
            "config",
            "conntrack",
            "error",
            "exit",
            "mesh",
            "netlink",
            "ownership",
            "packet",
            "routing",
            "ruleset",
        ],
    ),
];

/// Rooms that know nothing of the system.
const PURE: &[&str] = &["ruleset", "ownership", "packet", "mesh"];

/// What pure code may not reach for. Processes, files, the environment and sockets nobody may, but
/// where `.clippy.toml` is overruled.
const IMPURE: &[&str] = &["nix::", "caps::", "clippy::disallowed"];

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("src can be read").flatten() {
            match entry.path() {
                path if path.is_dir() => walk(&path, files),
                path => files.push(path),
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix(&root)
            .expect("below src")
            .display()
            .to_string();
        let text = fs::read_to_string(&path).expect("a source is text");
        (name, text)
    };
    files.into_iter().map(read).collect()
}

/// The lines of a file before its unit tests, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    shipped
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line))
}

fn in_room(file: &str, room: &str) -> bool {
    file.starts_with(&format!("{room}/")) || file == format!("{room}.rs")
}

#[test]
fn imports_go_one_way() {
    for (file, text) in sources() {
        let Some((room, allowed)) = ROOMS.iter().find(|(room, _)| in_room(&file, room)) else {
            continue;
        };
        for (_, rest) in code(&text).flat_map(|line| {
            line.match_indices("crate::")
                .map(|(at, _)| (at, &line[at + 7..]))
        }) {
            let used = rest
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or(rest);
            let fine = used == *room || allowed.contains(&used);
            assert!(fine, "{file}: {room} may not use {used}");
        }
    }
}

#[test]
fn pure_rooms_do_not_reach_for_the_system() {
    for (file, text) in sources() {
        if PURE.iter().any(|room| in_room(&file, room)) {
            for line in code(&text) {
                let found = IMPURE.iter().find(|name| line.contains(*name));
                assert_eq!(found, None, "{file}: {line}");
            }
        }
    }
}

#[test]
fn netfilter_knows_no_mesh() {
    for (file, text) in sources() {
        let rooms = ["ruleset", "packet", "netlink", "routing", "backend"];
        let only_for_tests = file.ends_with("tests.rs") || file.ends_with("strategy.rs");
        if !only_for_tests && rooms.iter().any(|room| in_room(&file, room)) {
            for line in code(&text) {
                assert!(!line.to_lowercase().contains("istio"), "{file}: {line}");
            }
        }
    }
}
