//! Which route a request takes, with a whole gateway.

mod path_spellings;
