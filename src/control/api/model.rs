//! What goes over the wire: bodies and answers, which are also the schemas of
//! the API's document. The command line reads the same types.

mod contents;
mod history;
mod node;
mod offer;
mod planned;
mod service;
mod session;
mod token;

pub use contents::{DatabaseCreate, DatabaseView, LONGEST_GRACE, RoleCreate, RoleRotate, RoleView};
pub use history::{AuditView, EventView};
pub use node::{NodeCreate, NodeState, NodeTlsWord, NodeView};
pub use offer::{CloudView, PlanView, RegionView};
pub use planned::{DrillOrder, SwitchoverOrder, SwitchoverView};
pub use service::{
    ChangeView, ConnectionInfo, ConnectionUse, Origin, ServiceChange, ServiceCreate,
    ServiceNodeView, ServiceState, ServiceSummary, ServiceView,
};
pub use session::{ConnectionView, EndedView, RefusalView};
pub use token::{NewToken, TokenCreate, TokenView};
