//! Measures one model in ONNX Runtime.

use std::{
    borrow::Cow,
    ffi::{CStr, CString},
    fs, io,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, Instant},
};

use messages::{Failure, FailureKind, Iterations};
use ort::{
    ErrorCode,
    environment::Environment,
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    sys::OrtApiBase,
    value::DynValue,
};

use super::{
    calm::{await_calm, look, with_moments},
    inputs,
    machine::Watch,
    power::Energy,
};
use crate::{
    failure::{FailureExt, ONNXRUNTIME_REMEDY, chain, failure},
    protocol::{BenchmarkRequest, Measured, Report},
};

/// Time between two reports of progress; heartbeats go every 5 s.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Loads the library and says its version.
pub(crate) fn version(library: &Path) -> Result<String, Failure> {
    let _environment = load(library)?;
    Ok(loaded_version(library))
}

/// Measures the request's model: waits for a calm processor, loads, warms up, then times iterations until the stopping
/// rule is met.
///
/// Between iterations it says now and then how far it is. How fast the processor is, is seen before the session is there
/// and after it is gone, whose threads would have a share in it.
pub(crate) fn measure(
    request: &BenchmarkRequest,
    report: &mut dyn FnMut(Report) -> io::Result<()>,
) -> Result<Measured, Failure> {
    let environment = load(&request.library)?;
    let before = request.usual.as_ref().and_then(|usual| await_calm(request.threads, usual));
    let (mut session, load_ms) = open(&environment, request)?;
    let tensors = tensors(request)?;
    for _ in 0..request.warmup_iterations {
        iterate(&mut session, &tensors)?;
    }
    let (watch, energy) = (Watch::begin(), Energy::read());
    let mut iterations = Iterations::new(request.stopping.into());
    let first_began = Instant::now();
    let (mut iterations_done, mut reported_at) = (0, first_began);
    let stop = loop {
        let iteration_ms = iterate(&mut session, &tensors)?;
        iterations_done += 1;
        if reported_at.elapsed() >= REPORT_EVERY {
            reported_at = Instant::now();
            let progress = Report { iterations_done, iterations_max: request.stopping.iterations_max };
            if let Err(error) = report(progress) {
                // The worker is gone; so is whoever wanted the answer, and the kernel ends this process.
                eprintln!("progress could not be written: {error}");
            }
        }
        if let Some(stop) = iterations.add(iteration_ms, first_began.elapsed()) {
            break stop;
        }
    };
    // Power first: reading all the rest takes time in which little is done.
    let power_w = energy.and_then(|energy| energy.mean_power_w());
    let seen = watch.end();
    drop(session);
    let looked = request.usual.as_ref().zip(before).zip(before.and_then(|_| look(request.threads)));
    Ok(Measured {
        seen: looked.map_or(seen, |((usual, before), after)| with_moments(seen, &before, &after, usual)),
        iterations_ms: iterations.into_in_order_ms(),
        stop: stop.into(),
        load_ms,
        memory_peak_mb: memory_peak_mb(),
        power_w,
        backend_version: loaded_version(&request.library),
    })
}

fn load(library: &Path) -> Result<Environment, Failure> {
    let unavailable = |reason: String| {
        failure(FailureKind::Unavailable, format!("failed to load ONNX Runtime from `{}`: {reason}", library.display()))
            .suggest(ONNXRUNTIME_REMEDY)
    };
    let builder = ort::init_from(library).map_err(|error| unavailable(error.to_string()))?;
    builder.with_telemetry(false).build().map_err(|error| unavailable(error.to_string()))
}

/// Opens the model; the time, in milliseconds, goes from opening the file to the session being ready.
fn open(environment: &Environment, request: &BenchmarkRequest) -> Result<(Session, f64), Failure> {
    let fail = |error: &ort::Error| explain("create a session", error);
    let mut builder = Session::builder(environment).map_err(|error| fail(&error))?;
    builder = builder.with_intra_threads(request.threads).map_err(|error| fail(&error.into()))?;
    builder = builder.with_inter_threads(1).map_err(|error| fail(&error.into()))?;
    builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(|error| fail(&error.into()))?;
    let opened_at = Instant::now();
    let session = builder.commit_from_file(&request.model).map_err(|error| fail(&error))?;
    Ok((session, milliseconds_since(opened_at)))
}

fn tensors(request: &BenchmarkRequest) -> Result<Vec<(String, DynValue)>, Failure> {
    let tensor = |input| inputs::tensor(input).map_err(|error| explain("make the model's inputs", &error));
    request.inputs.iter().map(|input| Ok((input.name.clone(), tensor(input)?))).collect()
}

/// Runs the model once; the time, in milliseconds, ends when the outputs are there.
fn iterate(session: &mut Session, tensors: &[(String, DynValue)]) -> Result<f64, Failure> {
    let views: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
        tensors.iter().map(|(name, tensor)| (Cow::Borrowed(name.as_str()), tensor.into())).collect();
    let began = Instant::now();
    let outputs = session.run(views).map_err(|error| explain("run the model", &error))?;
    let iteration_ms = milliseconds_since(began);
    drop(outputs);
    Ok(iteration_ms)
}

fn milliseconds_since(moment: Instant) -> f64 {
    moment.elapsed().as_secs_f64() * 1e3
}

/// Turns an error of ONNX Runtime into a failure of the right kind.
fn explain(action: &str, error: &ort::Error) -> Failure {
    let text = chain(error);
    let kind = match error.code() {
        _ if is_out_of_memory(&text) => FailureKind::OutOfMemory,
        ErrorCode::NoSuchFile => FailureKind::ModelMissing,
        ErrorCode::InvalidProtobuf | ErrorCode::InvalidGraph | ErrorCode::NoModel => FailureKind::ModelCorrupt,
        ErrorCode::NotImplemented => FailureKind::Unavailable,
        _ => FailureKind::BackendError,
    };
    failure(kind, format!("ONNX Runtime failed to {action}: {text}"))
}

/// Whether a message speaks of an allocation that failed: C++'s, Rust's, or ONNX Runtime's own.
pub(crate) fn is_out_of_memory(text: &str) -> bool {
    const SIGNS: [&str; 4] =
        ["bad_alloc", "memory allocation of", "Failed to allocate memory", "Cannot allocate memory"];
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// Largest resident memory of this process so far, in MB.
fn memory_peak_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    vm_hwm_mb(&status)
}

/// Reads `VmHWM` of a `/proc/<pid>/status`; the kernel writes kB and means 1,024 bytes.
fn vm_hwm_mb(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024.0 / 1e6)
}

/// Version of the library that [`load`] has loaded, e.g. `1.31.1`; its build description if it does not tell.
fn loaded_version(library: &Path) -> String {
    version_string(library).unwrap_or_else(|| ort::info().to_owned())
}

/// Asks the loaded library itself: `ort` knows the version but gives only the build description, which lacks it.
#[expect(unsafe_code, reason = "the version is behind two C function pointers")]
fn version_string(library: &Path) -> Option<String> {
    let path = CString::new(library.as_os_str().as_bytes()).ok()?;
    // SAFETY: both names are NUL-terminated. RTLD_NOLOAD gives a handle only if the library is loaded already; it
    // is never closed, so its code and strings stay. `OrtGetApiBase` has this signature in every release
    // (onnxruntime_c_api.h), and so has `GetVersionString`, which returns a static NUL-terminated string.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if handle.is_null() {
            return None;
        }
        let symbol = libc::dlsym(handle, c"OrtGetApiBase".as_ptr());
        if symbol.is_null() {
            return None;
        }
        let base = std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn() -> *const OrtApiBase>(symbol)();
        let version = (base.as_ref()?.GetVersionString)();
        CStr::from_ptr(version).to_str().ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_read_in_megabytes() {
        assert_eq!(vm_hwm_mb("Name:\tx\nVmPeak:\t  99 kB\nVmHWM:\t   1000000 kB\n"), Some(1_024.0));
        assert_eq!(vm_hwm_mb("Name:\tx\n"), None);
        assert!(memory_peak_mb().is_some_and(|peak| peak > 0.1));
    }

    #[test]
    fn failed_allocations_are_recognised() {
        assert!(is_out_of_memory("terminate called after throwing an instance of 'std::bad_alloc'"));
        assert!(is_out_of_memory("memory allocation of 4096 bytes failed"));
        assert!(!is_out_of_memory("invalid shape"));
    }
}
