//! The life of services: created, changed and deleted over the admin API
//! while Postern runs as a process of its own, on nodes of the inventory and
//! on servers of its own.

mod api;
pub mod control_plane;
mod crash;
mod interrupted;
mod life;
mod live;
mod remote;
mod rotation;

use control_plane::ControlPlane;
