//! The license call.

use super::Kind;
use crate::simulator::api::Route;
use crate::simulator::api::exempt;
use crate::simulator::view;
use crate::simulator::view::Keyed;
use crate::simulator::world::AnyTable;

/// The tier of the rate limit.
#[derive(Debug)]
pub struct License;

impl Kind for License {
    fn name(&self) -> &'static str {
        "license"
    }

    fn routes(&self) -> &'static [Route] {
        const {
            &[exempt("GET", "/v1/mgmt/license", |call| {
                Ok(view::bytes(&Keyed("rateLimitTier", &call.switches.license_tier)))
            })]
        }
    }

    fn table(&self) -> Option<Box<dyn AnyTable>> {
        None
    }
}
