//! The agent: its commands, and the one table that lists every component.
#![forbid(unsafe_code)]

pub mod cli;
pub mod command;
pub mod components;
pub mod lab;
