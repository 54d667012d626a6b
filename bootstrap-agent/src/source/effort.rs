//! How often others were asked, and how many tries that took: what a step cost besides time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_ssm::config::interceptors::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_ssm::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ssm::error::BoxError;

/// Counts calls, each with all its tries. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Effort(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU32,
    attempts: AtomicU32,
}

impl Effort {
    /// Something is asked for.
    pub fn call(&self) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// It is tried.
    pub fn attempt(&self) {
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// How many calls there were so far, and how many tries.
    pub fn so_far(&self) -> (u32, u32) {
        (self.0.calls.load(Ordering::Relaxed), self.0.attempts.load(Ordering::Relaxed))
    }
}

/// Counts what a client of the SDK does.
impl Intercept for Effort {
    fn name(&self) -> &'static str {
        "Effort"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.call();
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.attempt();
        Ok(())
    }
}
