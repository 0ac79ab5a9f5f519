-- What each role may do with the tables, now and in the future. Repeated at every migration: grants are idempotent.

grant select, insert, update, delete, truncate on all tables in schema raw to role customer_analytics_loader;
grant select, insert, update, delete, truncate on all tables in schema ops to role customer_analytics_loader;
grant select, insert, update, delete, truncate on all tables in schema quality to role customer_analytics_loader;
grant select, insert, update, delete, truncate on future tables in schema raw to role customer_analytics_loader;
grant select, insert, update, delete, truncate on future tables in schema ops to role customer_analytics_loader;
grant select, insert, update, delete, truncate on future tables in schema quality to role customer_analytics_loader;
grant select on all views in schema ops to role customer_analytics_loader;
grant usage on all file formats in schema raw to role customer_analytics_loader;
grant all privileges on stage raw.uploads to role customer_analytics_loader;

grant select on all tables in schema raw to role customer_analytics_transformer;
grant select, insert, update, delete on all tables in schema ops to role customer_analytics_transformer;
grant select, insert, update, delete, truncate on all tables in schema marts to role customer_analytics_transformer;
grant select on future tables in schema raw to role customer_analytics_transformer;
grant select, insert, update, delete on future tables in schema ops to role customer_analytics_transformer;
grant select, insert, update, delete, truncate on future tables in schema marts to role customer_analytics_transformer;
grant select, update on table quality.held_order_lines to role customer_analytics_transformer;

grant select on all tables in schema marts to role customer_analytics_analyst;
grant select on future tables in schema marts to role customer_analytics_analyst;
grant select on all tables in schema quality to role customer_analytics_analyst;
grant select on future tables in schema quality to role customer_analytics_analyst;
