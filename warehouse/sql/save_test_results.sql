-- Bound: 1. JSON array of test results.
merge into quality.test_results as target
using (
    select
        found.value:run_id::varchar as run_id,
        found.value:test_name::varchar as test_name,
        found.value:model_name::varchar as model_name,
        found.value:status::varchar as status,
        found.value:failures::number(38, 0) as failures,
        found.value:message::varchar as message,
        found.value:execution_seconds::float as execution_seconds,
        found.value:tested_at::timestamp_ntz as tested_at
    from table(flatten(input => parse_json(?))) as found
) as tested
    on
        target.run_id = tested.run_id
        and target.test_name = tested.test_name
when matched then
    update set
        model_name = tested.model_name,
        status = tested.status,
        failures = tested.failures,
        message = tested.message,
        execution_seconds = tested.execution_seconds,
        tested_at = tested.tested_at
when not matched then insert (
    run_id, test_name, model_name, status, failures, message, execution_seconds, tested_at
) values (
    tested.run_id, tested.test_name, tested.model_name, tested.status, tested.failures, tested.message,
    tested.execution_seconds, tested.tested_at
)
