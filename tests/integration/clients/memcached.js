// The npm package `memcached` does every operation it has; each step that was right is named on stdout.
// Arguments: the server's host:port.
'use strict';
const assert = require('assert');
const util = require('util');
const Memcached = require('memcached');

const server = process.argv[2];
const client = new Memcached(server, { timeout: 5000, retries: 1, poolSize: 2 });
const call = (name, ...rest) => util.promisify(client[name]).call(client, ...rest);
const done = (step) => console.log(step);
const refused = (promise) => assert.rejects(promise);

async function run() {
  await call('set', 'key', 'value', 100);
  assert.strictEqual(await call('get', 'key'), 'value');
  assert.strictEqual(await call('get', 'absent'), undefined);
  await call('set', 'object', { a: [1, 2] }, 100);
  assert.deepStrictEqual(await call('get', 'object'), { a: [1, 2] });
  await call('set', 'empty', '', 100);
  assert.strictEqual(await call('get', 'empty'), '');
  done('set');

  await refused(call('add', 'key', 'other', 100));
  await call('add', 'new', '1', 100);
  await call('replace', 'key', 'other', 100);
  await refused(call('replace', 'absent', 'other', 100));
  await call('append', 'key', '>');
  await call('prepend', 'key', '<');
  assert.strictEqual(await call('get', 'key'), '<other>');
  done('add');

  const { cas } = await call('gets', 'key');
  assert.strictEqual(await call('cas', 'key', 'two', cas, 100), true);
  assert.strictEqual(await call('cas', 'key', 'three', cas, 100), false);
  assert.strictEqual(await call('get', 'key'), 'two');
  done('cas');

  await call('set', 'n', 9, 100);
  assert.strictEqual(await call('incr', 'n', 1), 10);
  assert.strictEqual(await call('decr', 'n', 4), 6);
  assert.strictEqual(await call('incr', 'absent', 1), false);
  done('count');

  const keys = [...Array(100).keys()].map((number) => `key${number}`);
  await Promise.all(keys.map((key) => call('set', key, `value of ${key}`, 100)));
  const found = await call('getMulti', [...keys, 'absent']);
  assert.deepStrictEqual(Object.keys(found).sort(), [...keys].sort());
  assert.strictEqual(found.key7, 'value of key7');
  done('multi');

  await call('touch', 'key', 200);
  await call('set', 'gone', 'x', Math.floor(Date.now() / 1000) - 1000);
  assert.strictEqual(await call('get', 'gone'), undefined);
  assert.strictEqual(await call('del', 'key'), true);
  assert.strictEqual(await call('get', 'key'), undefined);
  done('expire');

  const big = 'a line of one hundred kilobytes, '.repeat(3200);
  await call('set', 'big', big, 100);
  assert.strictEqual(await call('get', 'big'), big);
  done('big');

  const [version] = await call('version');
  assert.ok(Number(version.major) >= 0 && version.version.split('.').length === 3);
  const [stats] = await call('stats');
  assert.ok(stats.curr_items >= 100);
  await call('settings');
  await call('slabs');
  await call('items');
  done('stats');

  if (process.argv[3]) {
    const config = await new Promise((resolve, reject) => client.command(() => ({
      command: 'config get cluster',
      callback: (error, reply) => (error ? reject(error) : resolve(reply)),
    })));
    assert.strictEqual(config.split('\n')[1], process.argv[3]);
    done('cluster');
  }

  await call('flush');
  assert.strictEqual(await call('get', 'n'), undefined);
  done('flush');
}

run().then(() => client.end(), (error) => {
  console.error(error);
  process.exit(1);
});
