-- Bound: 1. JSON array of {country, date, name}.
merge into ops.holidays as target
using (
    select
        holiday.value:country::varchar as country,
        holiday.value:date::date as holiday_date,
        holiday.value:name::varchar as holiday_name
    from table(flatten(input => parse_json(?))) as holiday
) as listed
    on
        target.country = listed.country
        and target.holiday_date = listed.holiday_date
when matched then update set holiday_name = listed.holiday_name
when not matched then
    insert (country, holiday_date, holiday_name)
    values (listed.country, listed.holiday_date, listed.holiday_name)
