//! Trouble that a running node can be put into, and what it counts meanwhile.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{PrivateNode, PrivateNodeError};

/// How long an alarm may take to come or go, in milliseconds: the node looks every few seconds.
const ALARM_MS_MAX: u64 = 30_000;
/// Wait before looking again, in milliseconds.
const ALARM_POLL_MS: u64 = 50;

impl PrivateNode {
    /// Raises or ends the alarm of too little memory, and waits until it holds: it blocks all who publish, in all of
    /// the node's cluster.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::Alarm`] if it does not come or go; [`PrivateNodeError::Tool`] if the node is stopped.
    pub fn set_memory_alarm(&self, on: bool) -> Result<(), PrivateNodeError> {
        self.evaluate(if on {
            "vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1})."
        } else {
            "{ok, Limit} = application:get_env(rabbit, vm_memory_high_watermark), \
             vm_memory_monitor:set_vm_memory_high_watermark(Limit)."
        })?;
        self.wait_for_alarm("memory", on)
    }

    /// The same for the alarm of too little disk space.
    ///
    /// # Errors
    ///
    /// As [`PrivateNode::set_memory_alarm`].
    pub fn set_disk_alarm(&self, on: bool) -> Result<(), PrivateNodeError> {
        self.evaluate(if on {
            // An exabyte.
            "rabbit_disk_monitor:set_disk_free_limit(1 bsl 60)."
        } else {
            "{ok, Limit} = application:get_env(rabbit, disk_free_limit), \
             rabbit_disk_monitor:set_disk_free_limit(Limit)."
        })?;
        self.wait_for_alarm("disk", on)
    }

    /// How many AMQP connections this node has.
    ///
    /// # Errors
    ///
    /// [`PrivateNodeError::Tool`] if it is stopped.
    pub fn connections(&self) -> Result<usize, PrivateNodeError> {
        self.number("length(rabbit_networking:connections_local()).")
    }

    /// How many AMQP channels this node has.
    ///
    /// # Errors
    ///
    /// As [`PrivateNode::connections`].
    pub fn channels(&self) -> Result<usize, PrivateNodeError> {
        self.number("length(rabbit_channel:list_local()).")
    }

    fn number(&self, expression: &str) -> Result<usize, PrivateNodeError> {
        let answer = self.evaluate(expression)?;
        answer.trim().parse().map_err(|_| PrivateNodeError::Answer { answer })
    }

    fn wait_for_alarm(&self, resource: &'static str, on: bool) -> Result<(), PrivateNodeError> {
        let expression =
            format!("lists:keymember({{resource_limit, {resource}, node()}}, 1, rabbit_alarm:get_alarms()).");
        let deadline = Instant::now() + Duration::from_millis(ALARM_MS_MAX);
        while self.evaluate(&expression)?.trim() != on.to_string() {
            if Instant::now() >= deadline {
                return Err(PrivateNodeError::Alarm { resource, waited_ms: ALARM_MS_MAX });
            }
            thread::sleep(Duration::from_millis(ALARM_POLL_MS));
        }
        Ok(())
    }
}
