//! The pool over real headless Chromium and Firefox. A missing browser is a failure: `make setup` installs both.

mod broken;
mod soak;
mod support;
mod working;
