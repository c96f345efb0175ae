//! What is left after a clean: nothing that was not there before.

use crate::lab::Namespace;
use crate::on_every_backend;
use crate::world::{SOME, apply, everything, run, same};

#[test]
fn nothing_to_clean_is_no_error() {
    let namespace = Namespace::new();
    let before = everything(&namespace);
    let done = run(&namespace, "clean").expect(0, "clean").unwrap();
    assert_eq!(done.out, "");
    assert!(done.err.contains("nothing of a mesh was here"), "{done:?}");
    assert_eq!(before, everything(&namespace));
}

#[test]
fn an_empty_namespace_is_empty_again() {
    on_every_backend(|backend| {
        let namespace = Namespace::new();
        let before = everything(&namespace);
        apply(&namespace, backend, SOME)?;
        run(&namespace, "clean").expect(0, "clean")?;
        same(&before, &everything(&namespace), "after apply and clean")
    });
}
