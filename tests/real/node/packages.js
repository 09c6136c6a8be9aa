// Packages that people build on, unmodified: node packages.js PORT NAME. Prints "NAME: ok" at the end.
const assert = require('node:assert');
const { once } = require('node:events');
const Redis = require('ioredis');

const port = Number(process.argv[2]);
const numbers = (n) => Array.from({ length: n }, (_, i) => i);

async function until(condition) {
  while (!(await condition())) await new Promise((done) => setTimeout(done, 20));
}

const packages = {
  async ioredis() {
    const r = new Redis(port);
    r.defineCommand('both', { numberOfKeys: 2, lua: 'return {KEYS[1], KEYS[2], ARGV[1]}' });
    assert.deepEqual(await r.both('a', 'b', 'c'), ['a', 'b', 'c']);
    const replies = await r.pipeline().set('p', 1).incr('p').both('a', 'b', 'c').exec();
    assert.deepEqual(replies, [[null, 'OK'], [null, 2], [null, ['a', 'b', 'c']]]);
    assert.deepEqual(await r.multi().set('p', 1).incr('p').exec(), [[null, 'OK'], [null, 2]]);
    const listener = new Redis(port);
    const heard = [];
    listener.on('message', (channel, text) => heard.push([channel, text]));
    listener.on('pmessage', (pattern, channel, text) => heard.push([pattern, text]));
    await listener.subscribe('news');
    await listener.psubscribe('n*');
    assert.equal(await r.publish('news', 'hi'), 2);
    await until(() => heard.length === 2);
    assert.deepEqual(heard, [['news', 'hi'], ['n*', 'hi']]);
    const monitor = await new Redis(port).monitor();
    const seen = [];
    monitor.on('monitor', (time, args) => seen.push(args.join(' ')));
    await r.get('p');
    await until(() => seen.includes('get p'));
    const together = new Redis(port, { enableAutoPipelining: true });
    await Promise.all(numbers(200).map((i) => together.set(`many:${i}`, i)));
    assert.equal(await together.get('many:199'), '199');
    const members = new Set();
    await r.sadd('set', ...numbers(300));
    for await (const some of r.sscanStream('set')) some.forEach((x) => members.add(x));
    assert.equal(members.size, 300);
  },

  async bull() {
    const Queue = require('bull');
    const queue = new Queue('work', { redis: { port } });
    queue.setMaxListeners(200);
    let tries = 0;
    let repeated = 0;
    queue.process('double', 5, async (job) => 2 * job.data.i);
    queue.process('repeated', async () => { repeated += 1; });
    queue.process('flaky', async () => {
      tries += 1;
      if (tries < 3) throw new Error('again');
      return tries;
    });
    const jobs = await Promise.all(numbers(50).map((i) => queue.add('double', { i })));
    assert.deepEqual(await Promise.all(jobs.map((j) => j.finished())), numbers(50).map((i) => 2 * i));
    assert.equal(await (await queue.add('flaky', {}, { attempts: 3, backoff: 10 })).finished(), 3);
    assert.equal(await (await queue.add('double', { i: 7 }, { delay: 50 })).finished(), 14);
    assert.equal(await (await queue.add('double', { i: 8 }, { priority: 2 })).finished(), 16);
    await queue.add('repeated', {}, { repeat: { every: 50, limit: 2 } });
    await until(() => repeated === 2);
    await until(async () => (await queue.getJobCounts()).completed === 55);
    await queue.pause();
    assert.ok(await queue.isPaused());
    await queue.obliterate({ force: true });
    await queue.close();
  },

  async 'rate-limiter-flexible'() {
    const { RateLimiterRedis } = require('rate-limiter-flexible');
    const limiter = new RateLimiterRedis({ storeClient: new Redis(port), points: 3, duration: 1000 });
    for (const left of [2, 1, 0]) assert.equal((await limiter.consume('user')).remainingPoints, left);
    await assert.rejects(limiter.consume('user'), (e) => e.msBeforeNext > 0);
    await limiter.penalty('other', 2);
    await limiter.reward('other', 1);
    assert.equal((await limiter.get('other')).consumedPoints, 1);
    await limiter.block('other', 1000);
    await assert.rejects(limiter.consume('other'), (e) => e.consumedPoints > 3);
    assert.ok(await limiter.delete('other'));
  },

  async 'socket.io'() {
    const { Server } = require('socket.io');
    const { io } = require('socket.io-client');
    const { createAdapter, createShardedAdapter } = require('@socket.io/redis-adapter');
    for (const adapter of [createAdapter, createShardedAdapter]) {
      // Ready before they subscribe: ioredis asks INFO of a connection that has only just come up.
      const redis = numbers(4).map(() => new Redis(port));
      await Promise.all(redis.map((connection) => once(connection, 'ready')));
      const servers = numbers(2).map((i) => new Server(0, { adapter: adapter(redis[2 * i], redis[2 * i + 1]) }));
      for (const server of servers) {
        server.on('connection', (socket) => {
          socket.join('room');
          socket.on('say', (text) => server.to('room').emit('said', text));
          socket.emit('ready');
        });
        server.on('question', (reply) => reply('answer'));
      }
      const clients = servers.map((server) => io(`http://127.0.0.1:${server.httpServer.address().port}`));
      await Promise.all(clients.map((client) => once(client, 'ready')));
      await until(async () => (await servers[0].fetchSockets().catch(() => [])).length === 2);
      const heard = [[], []];
      clients.forEach((client, i) => client.on('said', (text) => heard[i].push(text)));
      numbers(20).forEach((i) => clients[0].emit('say', i));
      await until(() => heard.every((h) => h.length === 20));
      assert.deepEqual(heard, [numbers(20), numbers(20)]);
      assert.deepEqual(await servers[0].serverSideEmitWithAck('question'), ['answer']);
      clients.forEach((client) => client.close());
    }
  },
};

packages[process.argv[3]]().then(() => {
  console.log(`${process.argv[3]}: ok`);
  process.exit(0);
}, (e) => {
  console.log(e);
  process.exit(1);
});
