CREATE ROLE {role}_a;
CREATE ROLE {role}_b;
GRANT {role}_a, {role}_b TO {role};
-- Nobody should wait for anybody; who does is told so, in both worlds.
ALTER ROLE {role} SET lock_timeout = '3s';
