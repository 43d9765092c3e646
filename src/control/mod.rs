//! The control plane: everything that is not on the way of a query.

pub mod admin;
pub mod api;
pub mod catalog;
pub mod config;
pub mod doctor;
pub mod drill;
pub mod exposition;
mod leader;
pub mod management;
pub mod pausing;
pub mod planned;
pub mod pooling;
pub mod provision;
