//! Whose fault it is that a tab gave no measurements: the job's, or the browser's.

use messages::Platform;

use crate::{
    WebError,
    inner::Inner,
    protocol::{Cause, Failed},
    recovery::Break,
    session::Session,
    tab::{Step, TabEnd},
};

/// How an attempt came to nothing.
#[derive(Debug)]
pub(super) enum End {
    /// The job's own end.
    Answer(WebError),
    /// The browser broke; the job may go on elsewhere.
    Broken(Break, String),
}

/// What Chromium, Firefox and ONNX Runtime say when a GPU device is gone or not to be had for the moment.
const DEVICE_TROUBLE: &[&str] =
    &["gpu adapter", "webgpu device", "device lost", "device is lost", "device was lost", "external instance"];

/// What they say when memory is.
const MEMORY_TROUBLE: &[&str] =
    &["out of memory", "bad_alloc", "allocation failed", "memory allocation", "(oom)", "failed to allocate"];

/// Judges the end of a talk with a tab.
pub(super) fn judge(
    end: TabEnd,
    session: &Session,
    browser: &str,
    platform: Platform,
    inner: &Inner,
    step: &Step,
) -> End {
    let phase = step.get();
    match end {
        TabEnd::Gone if session.was_ended() => {
            End::Broken(Break::Ours, format!("its browser was ended for another reason in phase {phase}"))
        }
        TabEnd::Gone if !session.is_alive() => End::Broken(Break::Browser, format!("it died in phase {phase}")),
        TabEnd::Gone => End::Broken(Break::Page, format!("its page died in phase {phase}")),
        TabEnd::Silent => {
            inner.state().counters.watchdog_ended += 1;
            let silence_ms = inner.settings.silence_ms_max;
            End::Answer(WebError::Silent { browser: browser.to_owned(), silence_ms, phase })
        }
        TabEnd::Failed(failed) => judge_failure(failed, browser, platform),
    }
}

fn judge_failure(failed: Failed, browser: &str, platform: Platform) -> End {
    let Failed { phase, cause, message, .. } = failed;
    let browser = browser.to_owned();
    match cause {
        Cause::DeviceLost => End::Broken(Break::Device, format!("its GPU device was lost: {message}")),
        Cause::Page | Cause::Worker | Cause::Fetch => {
            End::Broken(Break::Page, format!("its page failed in phase {phase}: {message}"))
        }
        Cause::Unavailable => End::Broken(Break::Page, message),
        Cause::Job => End::Answer(WebError::Invalid { reason: message }),
        Cause::Session | Cause::Run if says(&message, MEMORY_TROUBLE) => {
            End::Answer(WebError::OutOfMemory { browser, platform, phase, message })
        }
        Cause::Session | Cause::Run if platform == Platform::Webgpu && says(&message, DEVICE_TROUBLE) => {
            End::Broken(Break::Device, format!("its GPU device failed: {message}"))
        }
        Cause::Session => End::Answer(WebError::Load { browser, platform, message }),
        Cause::Run => End::Answer(WebError::Run { browser, platform, phase, message }),
    }
}

fn says(message: &str, words: &[&str]) -> bool {
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cause: Cause, message: &str, expected: &str) {
        let failed = Failed { job: None, phase: "run".to_owned(), cause, message: message.to_owned() };
        let end = match judge_failure(failed, "chromium", Platform::Webgpu) {
            End::Broken(broken, _) => format!("{broken:?}"),
            End::Answer(error) => error.failure_kind().as_str().to_owned(),
        };
        assert_eq!(end, expected, "{message}");
    }

    #[test]
    fn failures_are_the_browsers_or_the_jobs() {
        check(Cause::DeviceLost, "gone", "Device");
        check(Cause::Run, "A valid external Instance reference no longer exists.", "Device");
        check(Cause::Session, "Failed to get GPU adapter. You may need to enable", "Device");
        check(Cause::Worker, "Script error.", "Page");
        check(Cause::Session, "Can't create a session. ERROR_CODE: 7, protobuf parsing failed", "model-corrupt");
        check(Cause::Session, "no kernel for operator Foo", "backend-error");
        check(Cause::Session, "std::bad_alloc", "out-of-memory");
        check(Cause::Run, "Array buffer allocation failed", "out-of-memory");
        check(Cause::Job, "element type string", "invalid-job");
    }
}
