-- What a lab knows: every entry as it came, in one order. An entry that other rows are made of is never changed.
create table lab.entry (
  seq bigint generated always as identity,
  -- For readers that ask for what is new: a transaction may become visible after one with larger seq.
  tx xid8 not null default pg_current_xact_id(),
  id text primary key,
  kind text not null,
  body json not null -- json, not jsonb: the text stays byte for byte
);
create index entry_tx on lab.entry (tx);
create index entry_kind on lab.entry (kind, seq);

-- What is to be done, and whether it is. Made of entries; "running" is an open attempt.
create table lab.experiment (
  id text primary key, -- the digest of spec, model, text, rung, draw and harness: the claim that excludes
  spec text not null,
  text text not null,
  queue text not null,
  priority int not null,
  state text not null default 'waiting' check (state in ('waiting', 'done', 'dead')),
  attempts int not null default 0,
  allowed int not null
);

-- The first result of an experiment counts. A later one is an entry and nothing else.
create table lab.result (
  experiment text primary key,
  entry text not null,
  attempt uuid
);

-- Experiments that need the same of a worker wait in one queue.
create table lab.queue (
  name text primary key,
  needs text[] not null
);

create table lab.worker (
  name text primary key,
  host text not null,
  pid int not null,
  can text[] not null,
  started timestamptz not null default now(),
  beat timestamptz not null default now()
);

create table lab.attempt (
  id uuid primary key, -- chosen by who claims, so that a claim whose answer was lost is found again
  experiment text not null,
  worker text not null,
  queue text not null,
  job uuid not null,
  number int not null,
  started timestamptz not null default now(),
  beat timestamptz not null default now(),
  ended timestamptz,
  outcome text
);
create index attempt_open on lab.attempt (id) where ended is null;
create index attempt_experiment on lab.attempt (experiment);

-- Ends an attempt, once: of two that try, and of a worker and a sweeper, one gets an error and undoes all it did.
-- silent: only if it has shown no sign of life for so long.
create function lab.end_attempt(given uuid, how text, silent interval) returns void language plpgsql as $$
begin
  update lab.attempt set ended = now(), outcome = how
    where id = given and ended is null and (silent is null or beat < now() - silent);
  if not found then
    raise exception 'attempt % has ended', given using errcode = 'LAB01';
  end if;
end
$$;
