-- Bound: 1. JSON array of checks.
merge into quality.reconciliations as target
using (
    select
        found.value:run_id::varchar as run_id,
        found.value:source_system::varchar as source_system,
        found.value:check_name::varchar as check_name,
        found.value:measure::varchar as measure,
        found.value:expected_value::number(38, 8) as expected_value,
        found.value:actual_value::number(38, 8) as actual_value,
        found.value:is_passed::boolean as is_passed,
        found.value:detail::varchar as detail,
        found.value:checked_at::timestamp_ntz as checked_at
    from table(flatten(input => parse_json(?))) as found
) as checked
    on
        target.run_id = checked.run_id
        and target.source_system = checked.source_system
        and target.check_name = checked.check_name
        and target.measure = checked.measure
when matched then
    update set
        expected_value = checked.expected_value,
        actual_value = checked.actual_value,
        is_passed = checked.is_passed,
        detail = checked.detail,
        checked_at = checked.checked_at
when not matched then insert (
    run_id, source_system, check_name, measure, expected_value, actual_value, is_passed, detail, checked_at
) values (
    checked.run_id, checked.source_system, checked.check_name, checked.measure, checked.expected_value,
    checked.actual_value, checked.is_passed, checked.detail, checked.checked_at
)
