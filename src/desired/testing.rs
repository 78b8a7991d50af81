//! Kinds for tests of this module: the real ones, with every sort of field there is beside them.

use crate::resource;
use crate::resource::Kind;

/// The kinds of the tests, in the order of creation.
pub const KINDS: &[&dyn Kind] = resource::ALL;
