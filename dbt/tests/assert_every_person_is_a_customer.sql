-- A person's number is that of a customer who is a person of their own, and all versions of a customer name one person.
with customers as (
    select
        source_system,
        customer_id,
        min(person_id) as person_id,
        count(distinct person_id) as person_count
    from {{ ref('dim_customers') }}
    where customer_id is not null
    group by source_system, customer_id
)

select
    customers.source_system,
    customers.customer_id,
    customers.person_id,
    persons.person_id as person_of_person
from customers
left join customers as persons
    on
        customers.source_system = persons.source_system
        and customers.person_id = persons.customer_id
where customers.person_count <> 1 or not equal_null(customers.person_id, persons.person_id)
