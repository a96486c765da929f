//! Finding and loading the ONNX Runtime library. Nothing is opened before it is known to exist, and `ort` is not
//! touched before a library is loaded and known to be one that works: its errors call into the library.

use std::{
    env,
    error::Error as _,
    ffi::CStr,
    fs::File,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use libloading::Library;
use memchr::memmem;
use memmap2::Mmap;

use super::loaded::loaded;
use crate::{Error, Result, error::Reason};

const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The oldest version that works: before it there is no session on the CPU with a chosen device.
const OLDEST: (u32, u32) = (1, 23);

/// The first version that reports about its use on Linux and macOS, as soon as its environment is made.
const TELEMETRY_SINCE: (u32, u32) = (1, 29);

/// What stops that, if it is set before the environment is made.
const SILENCE: &str = "ORT_DISABLE_TELEMETRY";

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

/// What the loaded library gives its interfaces by: a constant of it.
static BASE: AtomicPtr<ort::sys::OrtApiBase> = AtomicPtr::new(ptr::null_mut());

/// The interface of a version, if the loaded library has it.
pub(super) fn interface(version: u32) -> Option<*const ort::sys::OrtApi> {
    // SAFETY: NULL, or a constant of a library that is never closed.
    let base = unsafe { BASE.load(Ordering::Acquire).as_ref() }?;
    // SAFETY: a function without preconditions. It returns a constant that ends with a NUL.
    let library = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy();
    // An older library is not asked: it would write a line of its own to the host's standard error.
    if parse(&library)? < (1, version) {
        return None;
    }
    // SAFETY: a function without preconditions. NULL if it does not know this version.
    Some(unsafe { (base.GetApi)(version) }).filter(|api| !api.is_null())
}

/// Loads the library: from the explicit place if one is given, else from the environment variable if it is set, else takes
/// the one that the process has loaded already if it can be used, else from beside this code, else from the system's folders. A
/// place that was named is the only one that is tried. One that reports about its use is refused unless that is allowed or
/// `SILENCE` is set.
pub(crate) fn load(explicit: Option<&Path>, allow_telemetry: bool) -> Result<PathBuf> {
    let variable = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut tried = Vec::new();
    let found = if let Some(place) = explicit {
        find_in_place(place, "runtime.library", &mut tried)
    } else if let Some(place) = variable {
        find_in_place(&place, VARIABLE, &mut tried)
    } else {
        tried.push(format!("the variable {VARIABLE}: not set"));
        find_loaded(allow_telemetry, &mut tried).or_else(|| find_unnamed(&mut tried))
    };
    let library = found.ok_or(Error::RuntimeNotFound { tried })?;
    let checked = open(&library).and_then(|(version, base)| {
        check(&version, &library, allow_telemetry)?;
        Ok(base)
    });
    match checked.and_then(|base| ort::init_from(&library).map(|_| base).map_err(Reason::of)) {
        Ok(base) => {
            BASE.store(ptr::from_ref(base).cast_mut(), Ordering::Release);
            Ok(library)
        }
        Err(Reason { reason, source }) => Err(Error::RuntimeUnusable { path: library, reason, source }),
    }
}

/// Has the system's loader load a library.
#[cfg(not(windows))]
unsafe fn load_library(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: the caller's.
    unsafe { Library::new(path) }
}

/// As above. What the library needs is looked for beside it too, not only beside the program.
#[cfg(windows)]
unsafe fn load_library(path: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::windows;

    // SAFETY: the caller's.
    unsafe { windows::Library::load_with_flags(path, windows::LOAD_WITH_ALTERED_SEARCH_PATH) }.map(Library::from)
}

/// Opens a library and returns its version, and what gives its interfaces. Errors are in the words of the system's loader.
fn open(path: &Path) -> Result<(String, &'static ort::sys::OrtApiBase), Reason> {
    let words = |error: libloading::Error| {
        let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Reason::from(words).with(error)
    };
    // SAFETY: the code that runs when a library is opened is that of a file which the caller, the environment or the
    // system's administrator named for this.
    let library = unsafe { load_library(path) }.map_err(words)?;
    // Never closed, for what it may have started.
    let library = ManuallyDrop::new(library);
    // SAFETY: ONNX Runtime's header declares it so.
    let base = unsafe { library.get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase") }
        .map_err(|error| words(error).after("it is not ONNX Runtime"))?;
    // SAFETY: a function without preconditions. It returns a constant, or NULL.
    let base = unsafe { base().as_ref() }.ok_or("it is not ONNX Runtime: OrtGetApiBase returns NULL")?;
    // SAFETY: as above; the text is a constant that ends with a NUL.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
    // SAFETY: as above. NULL if it does not know this version of its interface.
    if !is_too_old(&version) && unsafe { (base.GetApi)(ort::sys::ORT_API_VERSION) }.is_null() {
        let reason = format!("version {version} does not have version {} of its interface", ort::sys::ORT_API_VERSION);
        return Err(reason.into());
    }
    Ok((version, base))
}

fn check(version: &str, library: &Path, allow_telemetry: bool) -> Result<(), Reason> {
    if is_too_old(version) {
        let (major, minor) = OLDEST;
        return Err(format!("version {version} is too old, {major}.{minor}.0 or newer is needed").into());
    }
    if !allow_telemetry && !is_silenced(env::var(SILENCE).ok().as_deref()) && reports(version, library) {
        return Err(format!(
            "version {version} writes a device identifier and sends reports over the network unless the environment \
             variable {SILENCE}=1 is set when it is loaded: set it before the program starts, use a version before {}.{}, \
             or set runtime.allow_telemetry",
            TELEMETRY_SINCE.0, TELEMETRY_SINCE.1
        )
        .into());
    }
    Ok(())
}

fn is_too_old(version: &str) -> bool {
    parse(version).is_none_or(|version| version < OLDEST)
}

/// Major and minor version.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether a library reports about its use. The builds of distributions mostly leave that out, so one that names neither
/// the variable nor the receiver does not.
fn reports(version: &str, library: &Path) -> bool {
    if cfg!(windows) || parse(version) < Some(TELEMETRY_SINCE) {
        return false;
    }
    // SAFETY: the file is mapped by the loader too; nobody can use a library that is being changed.
    let Ok(bytes) = File::open(library).and_then(|file| unsafe { Mmap::map(&file) }) else { return true };
    [SILENCE.as_bytes(), b"events.data.microsoft.com"].iter().any(|name| memmem::find(&bytes, name).is_some())
}

/// Whether ONNX Runtime takes this value of the variable for a yes.
fn is_silenced(value: Option<&str>) -> bool {
    value.is_some_and(|value| ["1", "true", "yes", "on", "y"].contains(&value.trim().to_ascii_lowercase().as_str()))
}

/// Refuses a second library: one process can hold one.
pub(crate) fn same_as_loaded(wanted: &Path, loaded: &Path) -> Result<()> {
    let mut tried = Vec::new();
    let wanted = find_in_place(wanted, "runtime.library", &mut tried).ok_or(Error::RuntimeNotFound { tried })?;
    if wanted == loaded {
        return Ok(());
    }
    let reason = format!("{} is loaded already, a process can hold one", loaded.display());
    Err(Error::RuntimeUnusable { path: wanted, reason, source: None })
}

/// Looks at a place that somebody named: the library itself or the folder it is in.
fn find_in_place(place: &Path, named_by: &str, tried: &mut Vec<String>) -> Option<PathBuf> {
    if place.is_dir() {
        return find_in_folder(place, &format!("{named_by}: "), tried);
    }
    let found = existing_file(place);
    if found.is_none() {
        let reason = if place.is_symlink() { "a link to what is not there" } else { "no such file" };
        tried.push(format!("{named_by}: {}: {reason}", place.display()));
    }
    found
}

/// One that somebody else loaded. It may be of a version that is of no use here: then another one is taken.
fn find_loaded(allow_telemetry: bool, tried: &mut Vec<String>) -> Option<PathBuf> {
    loaded().iter().filter_map(|path| existing_file(path)).find(|path| {
        let usable = open(path).and_then(|(version, _)| check(&version, path, allow_telemetry));
        let reason = usable.err();
        if let Some(Reason { reason, .. }) = &reason {
            tried.push(format!("loaded in this process: {}: {reason}", path.display()));
        }
        reason.is_none()
    })
}

fn find_unnamed(tried: &mut Vec<String>) -> Option<PathBuf> {
    let module = process_path::get_dylib_path().and_then(|module| dunce::canonicalize(module).ok());
    let module = module.or_else(|| env::current_exe().ok());
    let beside = module.as_deref().map(beside).unwrap_or_default();
    let lib = beside.first().filter(|folder| folder.ends_with("bin")).map(|folder| folder.with_file_name("lib"));
    let folders = beside.into_iter().chain(lib).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    for folder in folders {
        if let Some(found) = find_in_folder(&folder, "", tried) {
            return Some(found);
        }
    }
    None
}

/// The folder of a program or library. Cargo puts tests, examples and benches into folders below that of programs, which is
/// the place for what all of them need.
fn beside(module: &Path) -> Vec<PathBuf> {
    let Some(folder) = module.parent() else { return Vec::new() };
    let below = folder.file_name().is_some_and(|name| name == "deps" || name == "examples");
    let above = folder.parent().filter(|_| below);
    [Some(folder), above].into_iter().flatten().map(Path::to_owned).collect()
}

fn find_in_folder(folder: &Path, prefix: &str, tried: &mut Vec<String>) -> Option<PathBuf> {
    let found = NAMES.iter().find_map(|name| existing_file(&folder.join(name)));
    if found.is_none() {
        let reason = match NAMES.iter().find(|name| folder.join(name).is_symlink()) {
            Some(link) => format!("{link} is a link to what is not there"),
            None => format!("no {}", NAMES.join(" or ")),
        };
        tried.push(format!("{prefix}{}: {reason}", folder.display()));
    }
    found
}

/// The absolute path of an existing file. `ort` would resolve a relative one against the executable.
fn existing_file(path: &Path) -> Option<PathBuf> {
    path.is_file().then(|| dunce::canonicalize(path).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_place_that_does_not_exist_is_listed_and_nothing_else_is_tried() {
        let error = load(Some(Path::new("/nowhere/libonnxruntime.so")), false).unwrap_err();
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

    #[cfg(unix)]
    #[test]
    fn a_link_to_what_is_not_there_is_told_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join(NAMES[0]);
        std::os::unix::fs::symlink(folder.path().join("gone"), &link).unwrap();
        for place in [folder.path(), &link] {
            let mut tried = Vec::new();
            assert_eq!(find_in_place(place, VARIABLE, &mut tried), None);
            assert!(tried[0].contains("a link to what is not there"), "{tried:?}");
        }
    }

    #[test]
    fn a_folder_with_the_library_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAMES[0]);
        std::fs::write(&file, b"").unwrap();
        let found = find_in_place(folder.path(), VARIABLE, &mut Vec::new()).unwrap();
        assert_eq!(found, dunce::canonicalize(&file).unwrap());
        assert!(!found.to_str().unwrap().starts_with(r"\\?\"), "{found:?}");
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (version, old) in
            [("1.22.1", true), ("1.9.0", true), ("1.23.0", false), ("1.100.0", false), ("2.0.0", false)]
        {
            assert_eq!(is_too_old(version), old, "{version}");
        }
        assert!(is_too_old("") && is_too_old("what"));
    }

    #[test]
    fn a_library_that_reports_is_known_by_what_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("library");
        std::fs::write(&file, b"..ORT_DISABLE_TELEMETRY\0..").unwrap();
        assert_eq!(reports("1.29.0", &file), cfg!(not(windows)));
        assert!(!reports("1.28.9", &file));
        std::fs::write(&file, b"..").unwrap();
        assert!(!reports("1.29.0", &file));
        assert!(["1", "true", "ON", " y "].iter().all(|value| is_silenced(Some(value))));
        assert!([None, Some(""), Some("0"), Some("false")].iter().all(|value| !is_silenced(*value)));
    }

    #[test]
    fn every_unnamed_place_is_listed() {
        let mut tried = Vec::new();
        if find_unnamed(&mut tried).is_none() {
            // Of a test, its own folder and the one above.
            assert_eq!(tried.len(), 2 + SYSTEM_FOLDERS.len());
        }
    }

    #[test]
    fn what_is_in_folders_of_cargo_is_looked_for_above_them_too() {
        for (module, folders) in [
            ("/x/target/debug/program", &["/x/target/debug"][..]),
            ("/x/target/debug/deps/test-1", &["/x/target/debug/deps", "/x/target/debug"]),
            ("/x/target/release/examples/one", &["/x/target/release/examples", "/x/target/release"]),
            ("/usr/lib/libqwenguard.so", &["/usr/lib"]),
        ] {
            let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
            assert_eq!(beside(Path::new(module)), folders, "{module}");
        }
    }
}
