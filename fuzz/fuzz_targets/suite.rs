#![no_main]

#[path = "../suite_input.rs"]
mod suite_input;

libfuzzer_sys::fuzz_target!(|input: &[u8]| suite_input::check(input));
