//! Windows.

use std::{
    ptr,
    sync::{Mutex, PoisonError},
};

use windows_sys::Win32::System::{
    JobObjects::{
        JOB_OBJECT_LIMIT_JOB_MEMORY, JOB_OBJECT_LIMIT_PROCESS_MEMORY, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
        JobObjectExtendedLimitInformation, QueryInformationJobObject,
    },
    SystemInformation::{GlobalMemoryStatusEx, MEMORYSTATUSEX},
};

pub(super) fn memory() -> Option<usize> {
    let machine = machine()?;
    Some(job_limit().map_or(machine, |limit| limit.min(machine)))
}

fn machine() -> Option<usize> {
    // Wine says zero to a thread that asks while another one does.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _asking = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut status = MEMORYSTATUSEX { dwLength: size_of::<MEMORYSTATUSEX>() as u32, ..Default::default() };
    // SAFETY: the struct that is wanted, with its size.
    let known = unsafe { GlobalMemoryStatusEx(&mut status) } != 0;
    known.then(|| usize::try_from(status.ullTotalPhys).ok()).flatten().filter(|bytes| *bytes > 0)
}

/// The smallest limit of the job that this process is in, such as that of a container. Without a job the call fails.
fn job_limit() -> Option<usize> {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    let bytes = size_of_val(&limits) as u32;
    // SAFETY: no handle is this process' own job; the struct is the one of this class, with its size.
    let known = unsafe {
        QueryInformationJobObject(
            ptr::null_mut(),
            JobObjectExtendedLimitInformation,
            (&raw mut limits).cast(),
            bytes,
            ptr::null_mut(),
        )
    };
    if known == 0 {
        return None;
    }
    let set = limits.BasicLimitInformation.LimitFlags;
    let of_job = (set & JOB_OBJECT_LIMIT_JOB_MEMORY != 0).then_some(limits.JobMemoryLimit);
    let of_process = (set & JOB_OBJECT_LIMIT_PROCESS_MEMORY != 0).then_some(limits.ProcessMemoryLimit);
    of_job.into_iter().chain(of_process).min()
}
