//! Finding and loading the ONNX Runtime library. Nothing is opened before it is known to exist, and `ort` is not
//! touched before a library is loaded: its errors call into the library.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

const VARIABLE: &str = "ORT_DYLIB_PATH";

#[cfg(target_os = "windows")]
const NAMES: &[&str] = &["onnxruntime.dll"];
#[cfg(target_vendor = "apple")]
const NAMES: &[&str] = &["libonnxruntime.dylib"];
#[cfg(not(any(target_os = "windows", target_vendor = "apple")))]
const NAMES: &[&str] = &["libonnxruntime.so", "libonnxruntime.so.1"];

/// Where a system keeps shared libraries. Looked at by absolute path, never by bare name: what a bare name finds is up
/// to the host, and on Windows it is a copy of the system's own that is too old.
#[cfg(unix)]
const SYSTEM_FOLDERS: &[&str] = &[
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/lib",
    "/usr/lib64",
    #[cfg(target_arch = "x86_64")]
    "/usr/lib/x86_64-linux-gnu",
    #[cfg(target_arch = "aarch64")]
    "/usr/lib/aarch64-linux-gnu",
    "/opt/homebrew/lib",
];
#[cfg(not(unix))]
const SYSTEM_FOLDERS: &[&str] = &[];

/// Loads the library: from the explicit place if one is given, else from the environment variable if it is set, else
/// from beside this code, else from the system's folders. A place that was named is the only one that is tried.
pub(crate) fn load(explicit: Option<&Path>) -> Result<PathBuf> {
    let variable = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut tried = Vec::new();
    let found = if let Some(place) = explicit {
        find_in_place(place, "runtime.library", &mut tried)
    } else if let Some(place) = variable {
        find_in_place(&place, VARIABLE, &mut tried)
    } else {
        tried.push(format!("the variable {VARIABLE}: not set"));
        find_unnamed(&mut tried)
    };
    let library = found.ok_or(Error::RuntimeNotFound { tried })?;
    match ort::init_from(&library) {
        Ok(_) => Ok(library),
        Err(error) => Err(Error::RuntimeUnusable { path: library, reason: error.to_string() }),
    }
}

/// Refuses a second library: one process can hold one.
pub(crate) fn same_as_loaded(wanted: &Path, loaded: &Path) -> Result<()> {
    let mut tried = Vec::new();
    let wanted = find_in_place(wanted, "runtime.library", &mut tried).ok_or(Error::RuntimeNotFound { tried })?;
    if wanted == loaded {
        return Ok(());
    }
    let reason = format!("{} is loaded already, a process can hold one", loaded.display());
    Err(Error::RuntimeUnusable { path: wanted, reason })
}

/// Looks at a place that somebody named: the library itself or the folder it is in.
fn find_in_place(place: &Path, named_by: &str, tried: &mut Vec<String>) -> Option<PathBuf> {
    if place.is_dir() {
        return find_in_folder(place, &format!("{named_by}: "), tried);
    }
    let found = existing_file(place);
    if found.is_none() {
        tried.push(format!("{named_by}: {}: no such file", place.display()));
    }
    found
}

fn find_unnamed(tried: &mut Vec<String>) -> Option<PathBuf> {
    let module = process_path::get_dylib_path().and_then(|module| module.canonicalize().ok());
    let module = module.or_else(|| env::current_exe().ok());
    let beside = module.and_then(|module| module.parent().map(Path::to_owned));
    let folders = beside.into_iter().chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    for folder in folders {
        if let Some(found) = find_in_folder(&folder, "", tried) {
            return Some(found);
        }
    }
    None
}

fn find_in_folder(folder: &Path, prefix: &str, tried: &mut Vec<String>) -> Option<PathBuf> {
    let found = NAMES.iter().find_map(|name| existing_file(&folder.join(name)));
    if found.is_none() {
        tried.push(format!("{prefix}{}: no {}", folder.display(), NAMES.join(" or ")));
    }
    found
}

/// The absolute path of an existing file. `ort` would resolve a relative one against the executable.
fn existing_file(path: &Path) -> Option<PathBuf> {
    path.is_file().then(|| path.canonicalize().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_place_that_does_not_exist_is_listed_and_nothing_else_is_tried() {
        let error = load(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err();
        let Error::RuntimeNotFound { tried } = &error else { panic!("{error}") };
        assert_eq!(tried.len(), 1);
        assert!(tried[0].contains("/nowhere/libonnxruntime.so"), "{error}");
    }

    #[test]
    fn a_folder_without_the_library_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let mut tried = Vec::new();
        assert_eq!(find_in_place(folder.path(), VARIABLE, &mut tried), None);
        assert!(tried[0].contains(NAMES[0]), "{tried:?}");
    }

    #[test]
    fn a_folder_with_the_library_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAMES[0]);
        std::fs::write(&file, b"").unwrap();
        let found = find_in_place(folder.path(), VARIABLE, &mut Vec::new()).unwrap();
        assert_eq!(found, file.canonicalize().unwrap());
    }

    #[test]
    fn every_unnamed_place_is_listed() {
        let mut tried = Vec::new();
        if find_unnamed(&mut tried).is_none() {
            assert_eq!(tried.len(), 1 + SYSTEM_FOLDERS.len());
        }
    }
}
