/* A slave board of the cell link in C99: the smallest one that a master accepts.
 *
 * No heap, no input or output of its own. Copy it, then:
 *
 * 1. Write the five board_ functions declared below for your hardware.
 * 2. Call slave_init once. On CAN, call slave_boot after it.
 * 3. Call slave_receive for each frame from the bus, slave_tick every 10 ms or so.
 *
 * On a UART, slave_uart_byte takes the bytes that come in, and slave_uart_encode makes the bytes
 * that board_send has to write. The protocol is described in docs/reference/cell-link.md.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { ALARM = 0x00, SCAN = 0x01, BALANCE = 0x02, HELLO = 0x03, ASSIGN = 0x04 };
enum { CELLS = 0x08, TEMPS = 0x10, STATUS = 0x14 };
enum { ALL = 0, UNADDRESSED = 63, NO_READING = 8191, VERSION = 1 };
enum { CAN_BALANCE_BY_MASK = 1, PAUSE_BALANCING = 1, ALARM_PERIOD_MS = 100 };
enum { MOST_CELLS = 32, MOST_TEMPS = 16 };

#define NONE INT16_MIN /* no valid reading */

/* To be written for the board. */
void board_measure(int16_t *mv, int16_t *dc);  /* cells in mV, temperatures in 0.1 degC, or NONE */
void board_balance(uint32_t mask);             /* bit n: the resistor of cell n+1; others off */
int board_degc(void);                          /* the board's own temperature */
uint16_t board_faults(uint8_t *worst_cell);    /* low byte trips the master, high byte warns */
void board_send(uint16_t ident, const uint8_t *data, uint8_t n, uint32_t delay_us);

static struct {
    uint8_t node, cells, temps, seq;
    bool uart, sampled, balancing, alarming, overlong;
    uint32_t serial, mask, balance_until_ms, alarm_at_ms;
    int16_t mv[MOST_CELLS], dc[MOST_TEMPS];
    uint8_t piece[16], filled;
} slave;

/* CRC-8 SAE J1850, continued from crc: polynomial 0x1D, start 0xFF, final xor 0xFF. */
static uint8_t crc8(uint8_t crc, const uint8_t *data, uint8_t n)
{
    for (uint8_t i = 0; i < n; i++) {
        crc ^= data[i];
        for (uint8_t bit = 0; bit < 8; bit++)
            crc = (uint8_t)(crc & 0x80 ? crc << 1 ^ 0x1D : crc << 1);
    }
    return crc;
}

static uint8_t crc8_frame(uint16_t ident, const uint8_t *data, uint8_t n)
{
    const uint8_t head[2] = {(uint8_t)(ident >> 8), (uint8_t)ident};
    return crc8(crc8(0xFF, head, 2), data, n) ^ 0xFF;
}

/* CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF. */
static uint16_t crc16(const uint8_t *data, uint8_t n)
{
    uint16_t crc = 0xFFFF;
    for (uint8_t i = 0; i < n; i++) {
        crc ^= (uint16_t)(data[i] << 8);
        for (uint8_t bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

/* Send a frame; data has room for the CRC-8 behind its n bytes. */
static void send_checked(uint8_t function, uint8_t *data, uint8_t n)
{
    const uint16_t ident = (uint16_t)(function << 6 | slave.node);
    data[n] = crc8_frame(ident, data, n);
    board_send(ident, data, n + 1, 0);
}

/* CELLS or TEMPS: up to four values of 13 bits, then the low 4 bits of seq. */
static void send_four(uint8_t function, const int16_t *values, int count, int offset)
{
    uint64_t word = (uint64_t)(slave.seq & 15) << 52;
    uint8_t data[8];
    for (int k = 0; k < 4; k++) {
        uint64_t raw = NO_READING;
        if (k < count && values[k] != NONE) {
            int value = values[k] + offset;
            raw = (uint64_t)(value < 0 ? 0 : value > NO_READING - 1 ? NO_READING - 1 : value);
        }
        word |= raw << 13 * k;
    }
    for (int i = 0; i < 7; i++)
        data[i] = (uint8_t)(word >> 8 * i);
    send_checked(function, data, 7);
}

static void send_hello(uint32_t delay_us)
{
    uint8_t data[8] = {VERSION, slave.cells, slave.temps, CAN_BALANCE_BY_MASK};
    for (int i = 0; i < 4; i++)
        data[4 + i] = (uint8_t)(slave.serial >> 8 * i);
    board_send((uint16_t)(HELLO << 6 | slave.node), data, 8, delay_us);
}

static void send_alarm(uint16_t faults, uint8_t worst_cell)
{
    int mv = 0;
    if (worst_cell && slave.sampled && slave.mv[worst_cell - 1] > 0)
        mv = slave.mv[worst_cell - 1];
    uint8_t data[7] = {(uint8_t)faults, (uint8_t)(faults >> 8), mv ? worst_cell : 0,
                       (uint8_t)mv, (uint8_t)(mv >> 8), slave.sampled ? slave.seq : 0xFF};
    send_checked(ALARM, data, 6);
}

static void send_answers(void)
{
    uint8_t worst_cell = 0;
    const uint16_t faults = board_faults(&worst_cell);
    uint32_t stack = 0;
    if (slave.uart && faults & 0xFF)
        send_alarm(faults, worst_cell);
    for (int i = 0; i < slave.cells; i += 4)
        send_four((uint8_t)(CELLS + i / 4), slave.mv + i, slave.cells - i, 0);
    for (int i = 0; i < slave.temps; i += 4)
        send_four((uint8_t)(TEMPS + i / 4), slave.dc + i, slave.temps - i, 1000);
    for (int i = 0; i < slave.cells; i++)
        if (slave.mv[i] != NONE)
            stack += (uint32_t)slave.mv[i];
    stack /= 10;
    uint8_t data[8] = {(uint8_t)stack, (uint8_t)(stack >> 8), (uint8_t)faults,
                       (uint8_t)(faults >> 8), (uint8_t)(board_degc() + 40),
                       slave.mask ? 100 : 0, slave.seq};
    send_checked(STATUS, data, 7);
}

static void on_scan(uint8_t node, uint8_t seq, uint8_t flags)
{
    /* Sample once per scan, all boards at the same moment. */
    if (node == ALL || !slave.sampled || seq != slave.seq) {
        if (flags & PAUSE_BALANCING && slave.mask)
            board_balance(0);
        board_measure(slave.mv, slave.dc);
        slave.seq = seq;
        slave.sampled = true;
        if (slave.mask)
            board_balance(slave.mask);
    }
    if (!slave.uart || node != ALL) /* on a UART a board waits for its own SCAN */
        send_answers();
}

static void set_balance(uint32_t mask, uint8_t seconds, uint32_t now_ms)
{
    const uint32_t cells = slave.cells < 32 ? (1u << slave.cells) - 1 : 0xFFFFFFFFu;
    slave.mask = seconds ? mask & cells : 0;
    slave.balancing = slave.mask != 0;
    slave.balance_until_ms = now_ms + 1000u * seconds;
    board_balance(slave.mask);
}

static uint32_t little_endian(const uint8_t *data)
{
    return data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
}

/* node: 1..62, or 63 until the master assigns one; serial: 1..2^30-1, unique in the pack. */
void slave_init(uint8_t node, uint8_t cells, uint8_t temps, uint32_t serial, bool uart)
{
    memset(&slave, 0, sizeof slave);
    slave.node = node;
    slave.cells = cells;
    slave.temps = temps;
    slave.serial = serial;
    slave.uart = uart;
    board_balance(0);
}

/* Once after each start; on a UART a board sends only when it is polled. */
void slave_boot(void)
{
    if (!slave.uart)
        send_hello(0);
}

/* One frame from the bus. now_ms: a clock that never stops; it may wrap at 2^32. */
void slave_receive(uint16_t ident, const uint8_t *data, uint8_t n, uint32_t now_ms)
{
    const uint8_t node = ident & 63;
    if (node != ALL && node != slave.node)
        return;
    switch (ident >> 6) {
    case SCAN:
        if (n == 2 && slave.node != UNADDRESSED)
            on_scan(node, data[0], data[1]);
        break;
    case HELLO:
        if (n == 0) /* several boards without a node may answer: spread them */
            send_hello(slave.node == UNADDRESSED ? slave.serial % 64 * 300 : 0);
        break;
    case BALANCE:
        if (n == 8 && crc8_frame(ident, data, 7) == data[7])
            set_balance(little_endian(data), data[4], now_ms);
        break;
    case ASSIGN:
        if (n == 5 && little_endian(data) == slave.serial && data[4] >= 1 && data[4] <= 62) {
            slave.node = data[4];
            send_hello(0);
        }
        break;
    }
}

/* Stop balancing once its time is over; on CAN repeat an ALARM while it lasts. */
void slave_tick(uint32_t now_ms)
{
    uint8_t worst_cell = 0;
    const uint16_t faults = board_faults(&worst_cell);
    if (slave.balancing && (int32_t)(now_ms - slave.balance_until_ms) >= 0)
        set_balance(0, 0, now_ms);
    if (slave.uart || !(faults & 0xFF)) {
        slave.alarming = false;
    } else if (!slave.alarming || now_ms - slave.alarm_at_ms >= ALARM_PERIOD_MS) {
        slave.alarming = true;
        slave.alarm_at_ms = now_ms;
        send_alarm(faults, worst_cell);
    }
}

/* One byte from a UART; a whole and undamaged frame goes to slave_receive. */
void slave_uart_byte(uint8_t byte, uint32_t now_ms)
{
    uint8_t plain[16], n = 0, i = 0;
    if (byte) {
        if (slave.filled < sizeof slave.piece)
            slave.piece[slave.filled++] = byte;
        else
            slave.overlong = true;
        return;
    }
    const uint8_t length = slave.filled;
    const bool overlong = slave.overlong;
    slave.filled = 0;
    slave.overlong = false;
    if (overlong)
        return;
    while (i < length) {
        const int end = i + slave.piece[i];
        if (end > length)
            return;
        for (i++; i < end; i++)
            plain[n++] = slave.piece[i];
        if (i < length)
            plain[n++] = 0;
    }
    if (n >= 4 && n <= 12 && crc16(plain, n - 2) == (plain[n - 2] | plain[n - 1] << 8))
        slave_receive((uint16_t)(plain[0] | plain[1] << 8), plain + 2, n - 4, now_ms);
}

/* Bytes of one frame for a UART: out has room for 14; how many they are. */
uint8_t slave_uart_encode(uint16_t ident, const uint8_t *data, uint8_t n, uint8_t *out)
{
    uint8_t plain[12] = {(uint8_t)ident, (uint8_t)(ident >> 8)};
    uint8_t at = 0, length = 1;
    memcpy(plain + 2, data, n);
    const uint16_t crc = crc16(plain, n + 2);
    plain[n + 2] = (uint8_t)crc;
    plain[n + 3] = (uint8_t)(crc >> 8);
    for (uint8_t i = 0; i < n + 4; i++) {
        if (plain[i]) {
            out[length++] = plain[i];
        } else {
            out[at] = length - at;
            at = length++;
        }
    }
    out[at] = length - at;
    out[length++] = 0;
    return length;
}
