//! The house keeps its shape: imports go down the five floors and never in a circle, also those of unit
//! tests; shipped code is pure where it should be, and netfilter knows no mesh. Paths are resolved from
//! the parsed sources, so that `super::` hides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use syn::visit::{self, Visit};

/// From the top down: a floor may use itself and those below it.
const FLOORS: [&str; 5] = ["frontend", "actions", "engine", "mesh", "netfilter"];

/// Within netfilter: what each room may use of the others.
const NETFILTER: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("trace", &["model"]),
    ("netlink", &[]),
    ("backend", &["model"]),
    ("nftables", &["backend", "model", "netlink"]),
    ("iptables", &["backend", "model"]),
    ("rtnetlink", &["model", "netlink"]),
    ("conntrack", &["model", "netlink"]),
    ("sock_diag", &["model", "netlink"]),
];

/// Rooms that know nothing of the system.
const PURE: [&[&str]; 3] = [&["mesh"], &["netfilter", "model"], &["netfilter", "trace"]];

/// What pure code may not use. `std::io` has only the kinds of errors there.
const SYSTEM: &[&str] = &[
    "nix",
    "caps",
    "std::fs",
    "std::process",
    "std::env",
    "std::net::Tcp",
];

/// A path of modules: `["mesh", "config", "facts"]`.
type Module = Vec<String>;

/// Whether code that only tests compile counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    All,
    Shipped,
}

/// One source file, and everything that its code names.
struct Source {
    module: Module,
    paths: Vec<Vec<String>>,
    words: Vec<String>,
}

/// Collects every path that stands in a file.
struct Paths {
    code: Code,
    /// The modules within the file that it is in now.
    inside: Module,
    found: Vec<Vec<String>>,
    words: Vec<String>,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| {
        let list = a.meta.require_list().map(|l| l.tokens.to_string());
        a.path().is_ident("cfg") && list.is_ok_and(|l| l == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if self.counts(&item.attrs) {
            self.inside.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.inside.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if self.counts(&item.attrs) {
            self.tree(&mut Vec::new(), &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|s| s.ident.to_string());
        self.add(segments.collect());
        visit::visit_path(self, path);
    }

    /// A macro's tokens are not parsed: whatever looks like a path of the crate is one.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let tokens = item.tokens.to_string();
        let tokens = tokens.replace(' ', "");
        for (at, _) in tokens.match_indices("crate::") {
            let path = tokens[at..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            let path = path.take(1).flat_map(|p| p.split("::"));
            self.add(path.map(str::to_owned).collect());
        }
    }

    fn visit_ident(&mut self, ident: &'ast proc_macro2::Ident) {
        self.words.push(ident.to_string());
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.words.push(literal.value());
    }

    /// Doc comments may name a mesh as an example.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

impl Paths {
    /// Adds a path; one that is relative to a module within the file begins with that module.
    fn add(&mut self, path: Vec<String>) {
        let is_relative = path.first().is_some_and(|p| p == "super" || p == "self");
        self.found.push(match is_relative {
            true => [&["self".to_owned()], self.inside.as_slice(), &path].concat(),
            false => path,
        });
    }

    fn counts(&self, attributes: &[syn::Attribute]) -> bool {
        self.code == Code::All || !is_test(attributes)
    }

    fn tree(&mut self, before: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(before, tree));
            }
            syn::UseTree::Name(name) => self.add(joined(before, &name.ident)),
            syn::UseTree::Rename(name) => self.add(joined(before, &name.ident)),
            syn::UseTree::Glob(_) => self.add(before.clone()),
        }
    }
}

fn joined(before: &[String], last: &proc_macro2::Ident) -> Vec<String> {
    let last = [last.to_string()].into_iter().filter(|l| l != "self");
    before.iter().cloned().chain(last).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("src can be read").flatten();
    let below = entries
        .map(|e| e.path())
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        });
    below.collect()
}

/// The sources, parsed once for all tests.
fn sources(code: Code) -> &'static [Source] {
    static ALL: LazyLock<Vec<Source>> = LazyLock::new(|| read_sources(Code::All));
    static SHIPPED: LazyLock<Vec<Source>> = LazyLock::new(|| read_sources(Code::Shipped));
    match code {
        Code::All => &ALL,
        Code::Shipped => &SHIPPED,
    }
}

fn read_sources(code: Code) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let parsed: Vec<(Module, syn::File)> = files(&root)
        .into_iter()
        .map(|path| {
            let below = path
                .strip_prefix(&root)
                .expect("below src")
                .with_extension("");
            let names = below.iter().map(|n| n.to_str().expect("UTF-8").to_owned());
            let mut module: Module = names.collect();
            if ["mod", "lib", "main"].contains(&module.last().map_or("", String::as_str)) {
                module.pop();
            }
            let text = fs::read_to_string(&path).expect("a source is text");
            (module, syn::parse_file(&text).expect("it compiles"))
        })
        .collect();
    let tests: BTreeSet<Module> = parsed
        .iter()
        .flat_map(|(m, f)| test_modules(m, f))
        .collect();
    parsed
        .into_iter()
        .filter(|(module, _)| code == Code::All || !tests.contains(module))
        .map(|(module, file)| {
            let mut paths = Paths {
                code,
                inside: Module::new(),
                found: Vec::new(),
                words: Vec::new(),
            };
            paths.visit_file(&file);
            Source {
                paths: paths.found,
                words: paths.words,
                module,
            }
        })
        .collect()
}

/// `#[cfg(test)] mod NAME;` in a file of its own.
fn test_modules(module: &Module, file: &syn::File) -> Vec<Module> {
    let mods = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(m) if is_test(&m.attrs) => Some(m.ident.to_string()),
        _ => None,
    });
    mods.map(|name| [module.as_slice(), &[name]].concat())
        .collect()
}

impl Source {
    fn name(&self) -> String {
        self.module.join("/")
    }

    fn is_in(&self, room: &[&str]) -> bool {
        self.module.iter().take(room.len()).eq(room)
    }

    /// The paths of the crate that it names, from its root on.
    fn uses(&self) -> impl Iterator<Item = Vec<String>> + '_ {
        self.paths.iter().filter_map(|path| {
            let mut at = match path.first()?.as_str() {
                "crate" => Module::new(),
                "self" => self.module.clone(),
                "super" => self.module.clone(),
                _ => return None,
            };
            for segment in path {
                match segment.as_str() {
                    "crate" | "self" => {}
                    "super" => drop(at.pop()),
                    name => at.push(name.to_owned()),
                }
            }
            Some(at)
        })
    }

    /// The files that it uses, as far as they are modules of `all`.
    fn files_used<'a>(&self, all: &'a BTreeMap<Module, &Source>) -> BTreeSet<&'a Module> {
        let longest = |path: Module| {
            (1..=path.len())
                .rev()
                .find_map(|n| all.get_key_value(&path[..n]).map(|(module, _)| module))
        };
        let used = self.uses().filter_map(longest);
        used.filter(|module| **module != self.module).collect()
    }
}

#[test]
fn imports_go_down_the_floors() {
    let mut seen = 0;
    for source in sources(Code::All) {
        let Some(floor) = source.module.first() else {
            continue;
        };
        let own = FLOORS.iter().position(|f| f == floor);
        let own = own.unwrap_or_else(|| panic!("{} is on no floor", source.name()));
        for path in source.uses() {
            let used = path
                .first()
                .and_then(|p| FLOORS.iter().position(|f| f == p));
            seen += usize::from(used.is_some());
            let fine = used.is_none_or(|used| used >= own);
            assert!(fine, "{} uses {}", source.name(), path.join("::"));
        }
    }
    assert!(seen > 500, "the sources were not read: {seen} imports");
}

#[test]
fn rooms_of_netfilter_are_apart() {
    for source in sources(Code::All)
        .iter()
        .filter(|s| s.is_in(&["netfilter"]))
    {
        let Some(room) = source.module.get(1) else {
            continue;
        };
        let known = NETFILTER.iter().find(|(name, _)| name == room);
        let (_, allowed) = known.unwrap_or_else(|| panic!("netfilter/{room} is not known"));
        for path in source.uses().filter(|p| p.len() > 1 && p[0] == "netfilter") {
            let fine = path[1] == *room || allowed.contains(&path[1].as_str());
            assert!(fine, "{} uses {}", source.name(), path.join("::"));
        }
    }
}

/// A file may use another one that uses it only as a parent uses its children: `mod.rs` re-exports
/// what is below it.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources(Code::All);
    let all: BTreeMap<Module, &Source> = sources.iter().map(|s| (s.module.clone(), s)).collect();
    let uses: BTreeMap<&Module, BTreeSet<&Module>> = all
        .iter()
        .map(|(module, source)| {
            let mut used = source.files_used(&all);
            used.retain(|other| !is_parent(other, module) && !is_parent(module, other));
            (module, used)
        })
        .collect();
    let mut done = BTreeSet::new();
    for module in uses.keys() {
        follow(module, &uses, &mut Vec::new(), &mut done);
    }
}

fn is_parent(parent: &[String], child: &[String]) -> bool {
    child.len() > parent.len() && child.starts_with(parent)
}

fn follow<'a>(
    module: &'a Module,
    uses: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
    path: &mut Vec<&'a Module>,
    done: &mut BTreeSet<&'a Module>,
) {
    if done.contains(module) {
        return;
    }
    if let Some(at) = path.iter().position(|m| *m == module) {
        let names: Vec<String> = path[at..].iter().map(|m| m.join("/")).collect();
        panic!("a circle: {}", names.join(" → "));
    }
    path.push(module);
    for used in &uses[module] {
        follow(used, uses, path, done);
    }
    path.pop();
    done.insert(module);
}

#[test]
fn pure_rooms_do_not_use_the_system() {
    for source in sources(Code::Shipped)
        .iter()
        .filter(|s| PURE.iter().any(|room| s.is_in(room)))
    {
        for path in &source.paths {
            let path = path.join("::");
            let system = SYSTEM.iter().find(|name| path.starts_with(*name));
            assert_eq!(system, None, "{}: {path}", source.name());
        }
    }
}

#[test]
fn clap_and_standard_output_are_the_front_end_s() {
    for source in sources(Code::Shipped)
        .iter()
        .filter(|s| !s.is_in(&["frontend"]))
    {
        let clap = source.paths.iter().find(|path| path[0].starts_with("clap"));
        assert_eq!(clap, None, "{}", source.name());
        let prints = ["print", "println", "eprint", "eprintln", "io::stdout"];
        let printed = source.paths.iter().find(|path| {
            let path = path.join("::");
            prints
                .iter()
                .any(|p| path == *p || path.ends_with(&format!("::{p}")))
        });
        assert_eq!(printed, None, "{}", source.name());
    }
}

#[test]
fn netfilter_knows_no_mesh() {
    let meshes = ["istio", "linkerd", "nginmesh", "envoy"];
    for source in sources(Code::Shipped)
        .iter()
        .filter(|s| s.is_in(&["netfilter"]))
    {
        for word in &source.words {
            let lower = word.to_lowercase();
            let mesh = meshes.iter().find(|mesh| lower.contains(*mesh));
            assert_eq!(mesh, None, "{}: {word}", source.name());
        }
    }
}
