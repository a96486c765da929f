//! Where ONNX Runtime placed the nodes of a session's graph, as it recorded that when it made the session.

use std::{
    ffi::{CStr, c_char},
    mem, ptr, slice,
};

use ort::{
    AsPointer,
    session::Session,
    sys::{OrtApi, OrtEpAssignedNode, OrtEpAssignedSubgraph, OrtSession, OrtStatusPtr},
};

use super::library;

/// The entry of a session's configuration that makes the runtime record it.
pub(super) const RECORD: (&str, &str) = ("session.record_ep_graph_assignment_info", "1");

/// The version of the interface that can tell. `ort` is asked for an older one, so that older runtimes are accepted too.
const VERSION: u32 = 24;

/// Places of its functions in the interface, a struct of pointers to functions that grows at its end.
const GET_ASSIGNMENT: usize = 407;
const GET_PROVIDER: usize = 408;
const GET_NODES: usize = 409;
const GET_OPERATOR: usize = 412;

/// Version 23 ends 17 functions before the first of them.
const _: () = assert!(ort::MINOR_VERSION != 23 || size_of::<OrtApi>() / size_of::<usize>() == GET_ASSIGNMENT - 17);

type GetAssignment =
    unsafe extern "system" fn(*const OrtSession, *mut *const *const OrtEpAssignedSubgraph, *mut usize) -> OrtStatusPtr;
type GetNodes = unsafe extern "system" fn(
    *const OrtEpAssignedSubgraph,
    *mut *const *const OrtEpAssignedNode,
    *mut usize,
) -> OrtStatusPtr;
type GetText<T> = unsafe extern "system" fn(*const T, *mut *const c_char) -> OrtStatusPtr;

/// Nodes that run on one provider.
pub(crate) struct Assigned {
    /// As ONNX Runtime names the provider.
    pub(crate) provider: String,
    /// The operator of each node.
    pub(crate) operators: Vec<String>,
}

/// Where the nodes of a session run, by provider. `None` if the runtime is too old to tell.
pub(super) fn of(session: &Session) -> ort::Result<Option<Vec<Assigned>>> {
    let Some(api) = library::interface(VERSION) else { return Ok(None) };
    // SAFETY: the interface of this version is a struct of pointers to functions, and has these at these places.
    let function = |place: usize| unsafe { *api.cast::<*const ()>().add(place) };
    // SAFETY: they have these types, by the header of that version.
    let (get_assignment, get_provider, get_nodes, get_operator) = unsafe {
        (
            mem::transmute::<*const (), GetAssignment>(function(GET_ASSIGNMENT)),
            mem::transmute::<*const (), GetText<OrtEpAssignedSubgraph>>(function(GET_PROVIDER)),
            mem::transmute::<*const (), GetNodes>(function(GET_NODES)),
            mem::transmute::<*const (), GetText<OrtEpAssignedNode>>(function(GET_OPERATOR)),
        )
    };
    let mut all: Vec<Assigned> = Vec::new();
    // SAFETY: the session is valid, and what it gives lives as long as it.
    for subgraph in unsafe { list(|items, count| get_assignment(session.ptr(), items, count)) }? {
        // SAFETY: as above.
        let (provider, nodes) = unsafe {
            let nodes = list(|items, count| get_nodes(subgraph, items, count))?;
            (text(|out| get_provider(subgraph, out))?, nodes)
        };
        let known = all.iter().position(|assigned| assigned.provider == provider).unwrap_or_else(|| {
            all.push(Assigned { provider, operators: Vec::new() });
            all.len() - 1
        });
        for node in nodes {
            // SAFETY: as above.
            all[known].operators.push(unsafe { text(|out| get_operator(node, out)) }?);
        }
    }
    Ok(Some(all))
}

/// A list that the runtime owns.
///
/// # Safety
/// `get` must give a list that lives as long as what is done with its items, or fail.
unsafe fn list<T>(get: impl FnOnce(*mut *const *const T, *mut usize) -> OrtStatusPtr) -> ort::Result<Vec<*const T>> {
    let (mut items, mut count) = (ptr::null(), 0);
    // SAFETY: the status comes from the runtime.
    unsafe { ort::Error::result_from_status(get(&mut items, &mut count)) }?;
    if items.is_null() || count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: so many pointers are there.
    Ok(unsafe { slice::from_raw_parts(items, count) }.to_vec())
}

/// A text that the runtime owns.
///
/// # Safety
/// `get` must give a text that ends with a NUL, or NULL, or fail.
unsafe fn text(get: impl FnOnce(*mut *const c_char) -> OrtStatusPtr) -> ort::Result<String> {
    let mut text = ptr::null();
    // SAFETY: the status comes from the runtime.
    unsafe { ort::Error::result_from_status(get(&mut text)) }?;
    if text.is_null() {
        return Ok(String::new());
    }
    // SAFETY: it is a text that ends with a NUL.
    Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
