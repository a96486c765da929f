//! The header is what the source says, and every function keeps the rules.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::tools::have;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// The sources of the ABI by file name.
fn sources() -> Vec<(String, String)> {
    let files = fs::read_dir(root().join("src/ffi")).unwrap().map(|file| file.unwrap().file_name());
    files.map(|name| name.into_string().unwrap()).map(|name| (name.clone(), read(&format!("src/ffi/{name}")))).collect()
}

/// The functions that the source exports, each with the text from its name on.
fn exported(source: &str) -> Vec<(&str, &str)> {
    let parts = source.split("extern \"C\" fn ").skip(1);
    parts.filter(|part| part.starts_with("qg_")).map(|part| (part.split_once('(').unwrap().0, part)).collect()
}

pub(crate) fn functions() -> BTreeSet<String> {
    let sources = sources();
    let names = sources.iter().flat_map(|(_, source)| exported(source)).map(|(name, _)| name.to_owned());
    let names: BTreeSet<String> = names.collect();
    assert!(names.len() > 30, "{names:?}");
    names
}

#[test]
fn the_committed_header_is_the_generated_one() {
    let generated = fs::read_to_string(Path::new(env!("OUT_DIR")).join("qwenguard.h")).unwrap();
    assert!(read("include/qwenguard.h") == generated, "include/qwenguard.h is out of date: run `make header`");
}

#[test]
fn the_committed_raw_layers_are_the_generated_ones() {
    if have("python3") {
        let said = Command::new("python3").current_dir(root()).args(["bindings/raw", "--check"]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}

/// Nothing is done outside the panic boundary.
#[test]
fn every_function_is_inside_the_boundary() {
    for (file, source) in sources() {
        assert_eq!(source.matches("no_mangle").count(), exported(&source).len(), "{file}");
        for (name, text) in exported(&source) {
            let (signature, body) = text.split_once("{\n").unwrap();
            let body = &body[..body.find("\n}").unwrap()];
            let body: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
            let boundary = match signature.contains("-> qg_status") {
                true => "boundary::status(error, ",
                false => "boundary::value(",
            };
            let (first, last) = (body[0], body[body.len() - 1]);
            assert!(first.starts_with(boundary), "{file}: {name} begins with {first}");
            assert!(last == "})" || body.len() == 1 && last.ends_with(')'), "{file}: {name} ends with {last}");
        }
    }
}

#[test]
fn every_function_is_in_the_header_with_its_errors_and_proved() {
    let (header, signatures) = (read("include/qwenguard.h"), read("src/ffi/signatures.rs"));
    let header = header.split_once("extern \"C\" {").unwrap().1;
    for name in functions() {
        assert!(signatures.contains(&format!("    {name}(")), "{name} is not in signatures.rs");
        let at = header.find(&format!("{name}(")).unwrap_or_else(|| panic!("{name} is not in the header"));
        let declaration = header[..at].rfind("\n\n").unwrap();
        let documented = &header[declaration..at];
        assert!(documented.contains("///"), "{name} is not documented");
        if documented.contains("\nqg_status ") {
            assert!(documented.contains("/// Errors: "), "{name} does not tell its errors");
        }
    }
}
