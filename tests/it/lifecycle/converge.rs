//! From every initial state apply converges, clean removes everything managed, and diff agrees
//! without writing.

use super::initial_states::{STARTS, Start};
use super::on_every_backend;
use super::recorded::{self, Recorded};
use super::world::{SOME, apply, everything, rules, run};
use crate::lab::{Namespace, same, without_comments};

/// The result of the options in an empty namespace.
fn desired(backend: &str) -> Result<String, String> {
    let fresh = Namespace::new();
    apply(&fresh, backend, SOME)?;
    Ok(rules(&fresh))
}

/// Checks every initial state, and lists all failures.
fn from_every_start(
    backend: &'static str,
    check: impl Fn(&Start, &Namespace) -> Result<(), String>,
) -> Result<(), String> {
    failures(STARTS.iter().filter_map(|start| {
        let namespace = Namespace::new();
        (start.make)(&namespace, backend);
        Some((start.name, check(start, &namespace).err()?))
    }))
}

#[test]
fn apply_converges_from_every_state() {
    on_every_backend(|backend| {
        let desired = desired(backend)?;
        from_every_start(backend, |_, namespace| {
            apply(namespace, backend, SOME)?;
            same(&desired, &rules(namespace), "after apply")?;
            let before = everything(namespace);
            let again = apply(namespace, backend, SOME)?;
            match again.err.contains("already in place") {
                true => same(&before, &everything(namespace), "a second apply wrote"),
                false => Err(format!("the second apply did something: {}", again.err)),
            }
        })
    });
}

#[test]
fn diff_agrees_with_apply_and_writes_nothing() {
    on_every_backend(|backend| {
        let line = format!("diff --backend {backend} {SOME}");
        from_every_start(backend, |start, namespace| {
            let before = everything(namespace);
            let diff = run(namespace, &line).expect(i32::from(start.differs), "diff before")?;
            if diff.out.is_empty() == start.differs {
                return Err(format!("diff says {:?}", diff.out));
            }
            same(&before, &everything(namespace), "diff wrote")?;
            apply(namespace, backend, SOME)?;
            let diff = run(namespace, &line).expect(0, "diff after")?;
            same("", &diff.out, "diff after an apply")
        })
    });
}

#[test]
fn clean_removes_everything_managed_without_options() {
    on_every_backend(|backend| {
        from_every_start(backend, |_, namespace| {
            run(namespace, "clean").expect(0, "clean")?;
            same("", &rules(namespace), "after clean")?;
            let before = everything(namespace);
            let again = run(namespace, "clean").expect(0, "clean again")?;
            same("", &again.out, "clean is quiet")?;
            same(&before, &everything(namespace), "a second clean wrote")
        })
    });
}

#[test]
fn apply_and_clean_replace_rules_of_the_tools_replaced() {
    let all = recorded::all();
    assert!(all.len() > 40, "{} recordings", all.len());
    on_every_backend(|backend| {
        let desired = desired(backend)?;
        let check = |left: &Recorded| {
            let namespace = Namespace::new();
            left.put_back(&namespace, backend);
            apply(&namespace, backend, SOME)?;
            // Only one of the tools has such rules.
            let found = without_comments(&rules(&namespace));
            same(&without_comments(&desired), &found, "after apply")?;
            let namespace = Namespace::new();
            left.put_back(&namespace, backend);
            run(&namespace, "clean").expect(0, "clean")?;
            same("", &rules(&namespace), "after clean")
        };
        failures(all.iter().filter_map(|r| Some((&*r.name, check(r).err()?))))
    });
}

/// The names of all failures, the first few with details.
fn failures<'a>(failed: impl Iterator<Item = (&'a str, String)>) -> Result<(), String> {
    let failed: Vec<(&str, String)> = failed.collect();
    if failed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    let texts: Vec<String> = failed
        .iter()
        .take(2)
        .map(|(name, e)| format!("{name}: {e}"))
        .collect();
    Err(format!("{}\n\n{}", names.join(", "), texts.join("\n\n")))
}
