#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obo_gateway::fuzzing::chunked(data));
