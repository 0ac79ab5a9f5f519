-- Marts on customers, by person: customers that were merged are one. As in 060: keys for readers and query planning.

create table if not exists marts.customer_segments (
    source_system varchar not null comment 'Source the customer is from',
    customer_id varchar not null comment 'Customer number under which the person is known now (person_id of DIM_CUSTOMERS)',
    currency varchar(3) not null comment 'ISO 4217 code of the orders',
    is_main_currency boolean not null comment 'One row per person: the currency with most orders, of equal ones the last used',
    as_of_date date not null comment 'Last business date of the source; recency is counted to it',
    first_order_date date comment 'Business date of the first order in this currency; NULL with returns only',
    last_order_date date comment 'Business date of the last order in this currency; NULL with returns only',
    days_since_last_order number(38, 0) comment 'Days from last_order_date to as_of_date',
    order_count number(38, 0) not null comment 'Orders with a line that is no return; one in two currencies counts in that of its first such line',
    gross_amount number(18, 4) not null comment 'quantity x unit_price of lines that take back no other line, in currency',
    discount_amount number(18, 4) not null comment 'Discounts of those lines, in currency',
    returned_amount number(18, 4) not null comment 'What was taken back, by lines that do so and in place, in currency',
    net_amount number(18, 4) not null comment 'gross_amount - discount_amount - returned_amount, in currency',
    reporting_currency varchar(3) not null comment 'ISO 4217 code of the shop''s own currency',
    reporting_gross_amount number(18, 4) comment 'gross_amount in reporting_currency; NULL where no line has an exchange rate',
    reporting_discount_amount number(18, 4) comment 'discount_amount in reporting_currency, likewise',
    reporting_returned_amount number(18, 4) comment 'returned_amount in reporting_currency, likewise',
    reporting_net_amount number(18, 4) comment 'The difference of these three',
    lines_without_exchange_rate number(38, 0) not null comment 'Order lines that the reporting amounts lack',
    recency_score number(1, 0) not null comment 'Of the person over all currencies: 1 (longest ago) to 5',
    frequency_score number(1, 0) not null comment 'Of the person over all currencies: 1 (fewest orders) to 5',
    monetary_score number(1, 0) not null comment 'Of the person over all currencies: 1 (least net amount) to 5',
    segment varchar not null comment 'Of the person: champion, loyal, new, promising, needs attention, must not be lost, at risk, hibernating, lost, returns only',
    constraint customer_segments_pk primary key (source_system, customer_id, currency)
)
comment = 'Grain: one row per person and currency';

create table if not exists marts.customer_cohorts (
    source_system varchar not null comment 'Source the customers are from',
    cohort_month date not null comment 'First day of the month of their first order, in the shop''s timezone',
    months_since_first_order number(38, 0) not null comment '0 in the month of the first order',
    activity_month date not null comment 'First day of the month the row is on',
    is_partial_month boolean not null comment 'The source''s data end within activity_month',
    as_of_date date not null comment 'Last business date of the source',
    customer_count number(38, 0) not null comment 'Persons in the cohort',
    active_customer_count number(38, 0) not null comment 'Persons of the cohort with an order in activity_month',
    retention_rate number(18, 4) not null comment 'active_customer_count / customer_count',
    order_count number(38, 0) not null comment 'Their orders with a line that is no return, in the month of the first such line',
    reporting_currency varchar(3) not null comment 'ISO 4217 code of the shop''s own currency',
    reporting_gross_amount number(18, 4) comment 'quantity x unit_price of lines that take back no other line, in reporting_currency; NULL where no line has an exchange rate',
    reporting_discount_amount number(18, 4) comment 'Discounts of those lines, in reporting_currency',
    reporting_returned_amount number(18, 4) comment 'What was taken back in activity_month, whenever it was sold, in reporting_currency',
    reporting_net_amount number(18, 4) comment 'The difference of these three',
    lines_without_exchange_rate number(38, 0) not null comment 'Order lines that these amounts lack',
    constraint customer_cohorts_pk primary key (source_system, cohort_month, months_since_first_order)
)
comment = 'Grain: one row per cohort month and month since, up to the last month of the data';

create table if not exists marts.customer_lifetime (
    source_system varchar not null comment 'Source the customer is from',
    customer_id varchar not null comment 'Customer number under which the person is known now (person_id of DIM_CUSTOMERS)',
    as_of_date date not null comment 'Last business date of the source; all is seen from there',
    cohort_month date comment 'First day of the month of the first order, as in CUSTOMER_COHORTS; NULL with returns only',
    first_order_date date comment 'Business date of the first order; NULL with returns only',
    first_ordered_at timestamp_ntz comment 'When it was placed, UTC',
    first_order_id varchar comment 'Its number; the smallest of orders in one instant',
    last_order_date date comment 'Business date of the last order; NULL with returns only',
    last_ordered_at timestamp_ntz comment 'When it was placed, UTC',
    last_order_id varchar comment 'Its number; the largest of orders in one instant',
    order_count number(38, 0) not null comment 'Orders with a line that is no return',
    order_day_count number(38, 0) not null comment 'Business dates on which such an order began',
    repeat_day_count number(38, 0) not null comment 'Frequency: order days after the first',
    active_days number(38, 0) comment 'Recency: days from the first order to the last',
    age_days number(38, 0) comment 'Age: days from the first order to as_of_date',
    days_since_last_order number(38, 0) comment 'Days from the last order to as_of_date',
    reporting_currency varchar(3) not null comment 'ISO 4217 code of the shop''s own currency',
    reporting_gross_amount number(18, 4) comment 'quantity x unit_price of lines that take back no other line; NULL where no line has an exchange rate',
    reporting_discount_amount number(18, 4) comment 'Discounts of those lines',
    reporting_returned_amount number(18, 4) comment 'What was taken back, by lines that do so and in place',
    reporting_net_amount number(18, 4) comment 'The difference of these three: net revenue so far (what goods cost the shop is not known here)',
    lines_without_exchange_rate number(38, 0) not null comment 'Order lines that these amounts lack',
    average_order_amount number(18, 4) comment 'reporting_net_amount / order_count',
    probability_alive number(5, 4) comment 'Estimate: how likely the person still buys here; NULL with returns only',
    horizon_days number(38, 0) not null comment 'Days after as_of_date that the expectations are for (variable lifetime_horizon_days)',
    expected_order_days number(18, 4) comment 'Estimate: days with an order within the horizon; NULL with returns only',
    expected_order_day_amount number(18, 4) comment 'Estimate: net amount of such a day in reporting_currency',
    expected_net_amount number(18, 4) comment 'expected_order_days x expected_order_day_amount',
    constraint customer_lifetime_pk primary key (source_system, customer_id)
)
comment = 'Grain: one row per person';
